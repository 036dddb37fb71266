"""The PyTorch backend: GPU inference and training. Needs the optional extra gemstead[torch].

Importing this package imports torch; backend.open_backend does so only when it is asked for.
"""

from gemstead.backend.torch.backend import TorchBackend
from gemstead.backend.torch.model import TextModel

__all__ = ["TextModel", "TorchBackend"]
