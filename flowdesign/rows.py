"""The project's own rows of a language model: one input and one output vector per workflow token.

The base keeps its vocabulary and its 4-bit weights untouched; what a sentence adds to it lives
here: an embedding for every project token, one more that opens a sentence, and an output layer
that gives logits over the project's tokens only.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from flowdesign.tokens import Vocabulary


class ProjectRows(nn.Module):
    """Input rows (tokens + 1, width), the last opens a sentence; output rows (tokens, width)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.begin = tokens
        self.inputs = nn.Embedding(tokens + 1, width)
        self.outputs = nn.Linear(width, tokens)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (...) to input vectors (..., width); id `begin` opens a sentence."""
        vectors: Tensor = self.inputs(ids)
        return vectors

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., width) to float32 logits (..., tokens)."""
        scores: Tensor = self.outputs(hidden.float())
        return scores


def rows_from_words(vocabulary: Vocabulary, words: Tensor, tokenizer: Any) -> ProjectRows:
    """Start every row from what its token's name means to the base model.

    An input row is the mean of the base's embeddings `words` (vocabulary, width) of the pieces of
    the token's name ("<sampler:euler>" is "sampler euler"); an output row the same, centred and
    small, so that training starts near the uniform distribution.
    """
    names = [spoken(token) for token in vocabulary.tokens] + ["workflow"]
    means = torch.stack([_mean_row(name, words, tokenizer) for name in names])
    rows = ProjectRows(len(vocabulary.tokens), words.shape[1])
    with torch.no_grad():
        rows.inputs.weight.copy_(means)
        centred = means[:-1] - means[:-1].mean(0)
        rows.outputs.weight.copy_(centred * (0.02 / centred.std()))
        rows.outputs.bias.zero_()
    return rows


def spoken(token: str) -> str:
    """The words of a token's name: "<ckpt:mini_flat>" is "ckpt mini flat"."""
    return " ".join(re.findall(r"[A-Za-z0-9.]+", token)) or token


def _mean_row(name: str, words: Tensor, tokenizer: Any) -> Tensor:
    pieces = tokenizer(" " + name, add_special_tokens=False)["input_ids"]
    return words[torch.tensor(pieces)].float().mean(0)
