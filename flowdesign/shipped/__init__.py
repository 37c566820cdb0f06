"""The shipped records: what was collected in the miniature world, without images, in one small file.

    packed    the file: writing it from a store, reading it back
    first     an empty store takes it in when it is first opened
    card      the dataset card beside it, with figures of the records
    command   python -m flowdesign shipped {make,load}

Each record has its prompt, sentence, seed, raw scores and the hashes of the models, so that its image
can be rendered again: `python -m flowdesign shipped check` does that for a few.
"""

from flowdesign.shipped.first import import_once
from flowdesign.shipped.packed import PACKED, Head, ShippedError, pack, read_head, unpack

__all__ = ["PACKED", "Head", "ShippedError", "import_once", "pack", "read_head", "unpack"]
