"""The shipped records: what was collected in the miniature world, without images, in one small file.

    packed    the file: writing it from a store, reading it back
    first     an empty store takes it in when it is first opened
    card      the dataset card beside it, with figures of the records
    command   python -m flowdesign shipped {make,load}

The files: what was collected first, of all splits (PACKED); more for reward models to learn from: random
workflows, what a policy says with its LoRA or checkpoint drawn anew, and what a search under an ensemble
finds (MORE); and a dense grid of prompts and workflows that they never meet (GRID), to measure them.

Each record has its prompt, sentence, seed, raw scores and the hashes of the models, so that its image
can be rendered again: `python -m flowdesign shipped check` does that for a few.
"""

from flowdesign.shipped.first import import_once
from flowdesign.shipped.packed import (
    FILES,
    GRID,
    MORE,
    PACKED,
    Head,
    ShippedError,
    pack,
    read_head,
    unpack,
    unpack_all,
)

__all__ = [
    "FILES",
    "GRID",
    "MORE",
    "PACKED",
    "Head",
    "ShippedError",
    "import_once",
    "pack",
    "read_head",
    "unpack",
    "unpack_all",
]
