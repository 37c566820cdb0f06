"""The vectors of a sentence's words.

A word says different things in different places: <cfg:7> of the second pass is not that of the first,
and a strength belongs to the LoRA before it. So each has a vector of its own and one for its role: the
pass it stands in, the resize after the last pass, or the LoRA that it is the strength of.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdesign.tokens import VOCABULARY

PASSES = 4  # roles of words: before the first <pass:...>, after it, after the second, ...
RESIZING = ("upscaler", "resize", "scale")


class Words(nn.Module):
    """Ids (pairs, places) to vectors (pairs, places, width). Id `tokens` stands before every sentence."""

    def __init__(self, tokens: int, width: int, std: float) -> None:
        super().__init__()
        groups = [word.group for word in VOCABULARY.words[:tokens]]
        groups += ["unknown"] * (tokens - len(groups)) + ["begin"]
        loras = [at for at, group in enumerate(groups) if group == "lora"]
        self.ids = len(groups)
        self.rows = nn.Embedding(self.ids, width)
        self.roles = nn.Embedding(self.ids * (PASSES + 1 + len(loras)), width)
        for table in (self.rows, self.roles):
            nn.init.normal_(table.weight, std=std * 0.5**0.5)
        numbers = torch.zeros(self.ids, dtype=torch.long)
        numbers[loras] = torch.arange(len(loras))
        self._note("number", numbers)
        for name, wanted in (
            ("is_pass", ("pass",)), ("is_cfg", ("cfg",)), ("is_strength", ("strength",)),
            ("is_resizing", RESIZING),
        ):  # fmt: skip
            self._note(name, torch.tensor([group in wanted for group in groups]))

    def _note(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """The sum of both vectors of each word."""
        passes, sampled = self.is_pass[ids].cumsum(1), self.is_cfg[ids].cumsum(1)
        before = functional.pad(ids[:, :-1], (1, 0))
        role = passes.clamp(max=PASSES - 1)
        role = torch.where(self.is_resizing[ids] & (sampled > passes), PASSES, role)
        role = torch.where(self.is_strength[ids], PASSES + 1 + self.number[before], role)
        vectors: Tensor = self.rows(ids) + self.roles(role * self.ids + ids)
        return vectors
