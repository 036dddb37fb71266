"""The reference backend: MODEL.md section 2 and 8 in numpy, the definition the others are tested by.

Read model.py first; each step it names is a module beside it.
"""

from gemstead.backend.reference.backend import ReferenceBackend

__all__ = ["ReferenceBackend"]
