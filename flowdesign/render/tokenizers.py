"""Tokenizers, and the tokens that frame a text.

CLIP's is shipped: the merges of OpenAI's byte pair encoding (MIT), from which its vocabulary follows.
T5's is not: it belongs in the folder `NAME.config/tokenizer` beside the file of the text encoder.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, CLIPTokenizer

from flowdesign.render.errors import UnsupportedModel
from flowdesign.render.files import CONFIGS, Part
from flowdesign.render.text import Special

MERGES = CONFIGS / "clip_merges.txt.gz"
START = "<|startoftext|>"
END = "<|endoftext|>"
FIRST = "!"  # of the vocabulary
LEAST_T5 = {"sd3": 77, "flux": 256}  # tokens of a text, the rest is padding
_PRINTED = (range(ord("!"), ord("~") + 1), range(ord("¡"), ord("¬") + 1), range(ord("®"), 256))


def tokenizer(part: Part) -> Any:
    """Return the tokenizer of a text encoder; raises UnsupportedModel when T5's is missing."""
    if part.tokenizer is not None:
        return AutoTokenizer.from_pretrained(part.tokenizer, local_files_only=True)
    if part.role != "t5":
        return clip_tokenizer(str(MERGES), padding_of(part))
    name = part.weights.stem
    raise UnsupportedModel(
        f"The text encoder '{name}' needs the tokenizer of T5: put its tokenizer.json and "
        f"tokenizer_config.json into the folder '{name}.config/tokenizer' beside it."
    )


def padding_of(part: Part) -> str:
    """Return what fills up a text: OpenAI's CLIP was trained with its end, OpenCLIP with zeros."""
    return END if part.role == "clip_l" else FIRST


@lru_cache(maxsize=2)
def clip_tokenizer(merges_file: str, padding: str) -> CLIPTokenizer:
    """Return CLIP's tokenizer, made from its merges."""
    text = gzip.decompress(Path(merges_file).read_bytes()).decode("utf-8")
    merges = [tuple(line.split()) for line in text.splitlines()]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m) for m in merges)]
    vocabulary = {word: index for index, word in enumerate([*words, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=padding, model_max_length=77)


def _letters() -> list[str]:
    """One letter for each byte: itself where it can be printed, one from 256 on where it cannot."""
    printed = [code for part in _PRINTED for code in part]
    others = len(range(256)) - len(printed)
    return [chr(code) for code in (*printed, *range(256, 256 + others))]


def special(words: Any, part: Part, config: Any, family: str) -> Special:
    """Return the tokens that frame a text; raises UnsupportedModel when the tokenizer has none."""
    start, end, pad = words.bos_token_id, words.eos_token_id, words.pad_token_id
    if part.role == "t5":
        return Special(None, end, pad, LEAST_T5.get(family, 77), chunked=False)
    if start is None or end is None:
        raise UnsupportedModel("The tokenizer has no start or end token.")
    return Special(start, end, end if pad is None else pad, min(config.max_position_embeddings, 77))
