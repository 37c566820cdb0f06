"""The vectors of a sentence's words.

A word says different things in different places: <cfg:7> of the second pass is not that of the first,
and a strength belongs to the LoRA before it. So each has a vector of its own and one for its role: the
stage that it speaks in, or the LoRA that it is the strength of. Where a later pass says <model:base>, the first
of the two is that of the sentence's checkpoint as a model.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdesign.tokens import VOCABULARY
from flowdesign.tokens.grammar import MAX_PASSES
from flowdesign.tokens.vocabulary import BASE, Word

LAST = MAX_PASSES  # the stage of the resize after all passes; those before it are passes
RESIZING = ("upscaler", "resize", "scale")
UNKNOWN, BEGIN = Word("unknown", None), Word("begin", None)  # not in the vocabulary


class Words(nn.Module):
    """Ids (pairs, places) to vectors (pairs, places, width). At place 0 stands id `tokens`, as a beginning.

    `roles` says which role the words of each stage have; stages that share one say the same.
    """

    def __init__(self, tokens: int, width: int, std: float, roles: Sequence[int]) -> None:
        super().__init__()
        words = [*VOCABULARY.words[:tokens]]
        words += [UNKNOWN] * (tokens - len(words)) + [BEGIN]
        loras = [at for at, word in enumerate(words) if word.group == "lora"]
        self.words = words
        self.ids, self.of_stages = len(words), max(roles) + 1
        self.rows = nn.Embedding(self.ids, width)
        self.roles = nn.Embedding(self.ids * (self.of_stages + len(loras)), width)
        for table in (self.rows, self.roles):
            nn.init.normal_(table.weight, std=std * 0.5**0.5)
        numbers = torch.zeros(self.ids, dtype=torch.long)
        numbers[loras] = torch.arange(len(loras))
        self._note("number", numbers)
        self._note("role_of", torch.tensor(roles))
        self._note("as_model", torch.tensor(_as_models(words)))
        for name, wanted in (
            ("is_pass", ("pass",)), ("is_cfg", ("cfg",)), ("is_strength", ("strength",)),
            ("is_resizing", RESIZING),
        ):  # fmt: skip
            self._note(name, torch.tensor([word.group in wanted for word in words]))
        self._note("is_base", torch.tensor([word == Word("model", BASE) for word in words]))

    @torch.no_grad()
    def guess(self, met: Collection[int], member: int) -> None:
        """Give each word that training never met the vectors of one of its group, another in each member.

        Left as it began, near nothing, it would say the same to all members, who would be sure of it.
        """
        for word in set(range(self.ids)).difference(met):
            alike = [at for at in sorted(met) if self.words[at].group == self.words[word].group]
            if alike:
                order = random.Random(f"reward/guess/{word}").sample(alike, len(alike))
                self._copy(order[member % len(order)], word)

    def _copy(self, one: int, other: int) -> None:
        """Let a word say what another says, in every role, and what strengths say behind it."""
        roles = self.roles.weight.view(-1, self.ids, self.rows.weight.shape[1])
        self.rows.weight[other] = self.rows.weight[one]
        roles[:, other] = roles[:, one]
        if self.words[one].group == "lora":
            behind, before = (self.of_stages + int(self.number[word]) for word in (other, one))
            roles[behind] = roles[before]

    def _note(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    def stages(self, ids: Tensor) -> Tensor:
        """Where in the workflow each word speaks: 0 up to the end of the first pass, 1, 2, ... in a later
        one, LAST in the resize after all passes. <end> still speaks in the last pass: it is known as such."""
        passes, sampled = self.is_pass[ids].cumsum(1), self.is_cfg[ids].cumsum(1)
        after = self.is_resizing[ids] & (sampled > passes)
        return torch.where(after, LAST, passes.clamp(max=LAST - 1))

    def forward(self, ids: Tensor, stages: Tensor) -> Tensor:
        """The sum of both vectors of each word."""
        before = functional.pad(ids[:, :-1], (1, 0))
        of_lora = self.of_stages + self.number[before]
        role = torch.where(self.is_strength[ids], of_lora, self.role_of[stages])
        checkpoint = self.as_model[ids[:, 1:2]]  # every sentence begins with one
        meant = torch.where(self.is_base[ids] & (checkpoint >= 0), checkpoint, ids)
        vectors: Tensor = self.rows(meant) + self.roles(role * self.ids + ids)
        return vectors


def _as_models(words: Sequence[Word]) -> list[int]:
    """For each word that names a checkpoint the id of the word that names it as a pass's model, else -1."""
    models = {word.value: at for at, word in enumerate(words) if word.group == "model"}
    return [models.get(word.value, -1) if word.group == "ckpt" else -1 for word in words]
