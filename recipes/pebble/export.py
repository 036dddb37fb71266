"""Writes the embedded model's file: trained weights and their vocabulary as one GGUF.

Matrices become q8_0, norms stay f32; the file asks for greedy decoding, which is what pebble is good
at. Reads what train.py and vocab.py wrote; pebble.gguf lands in the package unless told otherwise.

    python recipes/pebble/export.py --run recipes/pebble/out/run --vocab recipes/pebble/out/vocab.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch

from gemstead import pebble
from gemstead.spec.variants import VARIANTS
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.vocabulary import Vocabulary

SAMPLING = {"general.sampling.temp": 0.0}
ABOUT = {
    "general.name": "pebble",
    "general.description": "The model embedded in gemstead: tools, dates, units and its own handbook",
    "general.license": "apache-2.0",
}


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder with weights.pt")
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--format", default="q8_0")
    parser.add_argument("--out", type=Path, default=pebble.path())
    arguments = parser.parse_args()
    weights = torch.load(arguments.run / "weights.pt", map_location="cpu", weights_only=True)
    vocabulary = Vocabulary(**json.loads(arguments.vocab.read_text()))
    write_model_gguf(
        arguments.out,
        VARIANTS["pebble"],
        {name: tensor.float().numpy() for name, tensor in weights.items()},
        arguments.format,
        vocabulary=vocabulary,
        metadata=ABOUT | SAMPLING,
    )
    digest = hashlib.sha256(arguments.out.read_bytes()).hexdigest()  # gemstead verify compares
    arguments.out.with_suffix(".sha256").write_text(f"{digest}  {arguments.out.name}\n", "ascii")
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
