"""The text encoder of the family: a small CLIP text model with projection, one for all checkpoints.

It is trained before any image is seen, to say from a caption which shapes, colours, count, relation,
style and backdrop it asks for. Without this warm-up a small diffusion model ignores its text for most
of its training. It is frozen afterwards, so the embedding of a caption is computed once.
"""

from __future__ import annotations

import random
import re

import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from flowdesign.catalog import NEGATIVES, PREFIXES
from flowdesign.scenes import (
    BACKDROP_PHRASES,
    BACKDROPS,
    COLOURS,
    COUNTS,
    MEDIA,
    PLURALS,
    RELATION_PHRASES,
    RELATIONS,
    SHAPES,
    STYLE_PHRASES,
    STYLES,
    Item,
    Spec,
)
from flowdesign.zoo.fit import Chance, Loss
from flowdesign.zoo.pairs import random_text

WIDTH = 128
LENGTH = 77
_TAGS = ("crisp", "clean", "blurry", "messy")
_START, _END, _UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unk|>"


def words() -> list[str]:
    """Every word that a caption, a prefix or a negative can have, sorted."""
    phrases = [*MEDIA, *STYLE_PHRASES, *BACKDROP_PHRASES.values(), *PREFIXES, *NEGATIVES]
    phrases += [p for options in RELATION_PHRASES.values() for p in options]
    phrases += [*SHAPES, *PLURALS.values(), *COLOURS, *COUNTS, *STYLES, *_TAGS, "a and one , ."]
    return sorted({w for phrase in phrases for w in re.findall(r"[a-z]+|[,.]", phrase)})


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; any other word is unknown. Start and end as CLIP has them."""
    vocabulary = {w: i for i, w in enumerate([_UNKNOWN, *words(), _START, _END])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token=_UNKNOWN))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    pair = [(_START, vocabulary[_START]), (_END, vocabulary[_END])]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=pair
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=_START, eos_token=_END, pad_token=_END,
        unk_token=_UNKNOWN, model_max_length=LENGTH,
    )  # fmt: skip


def new_encoder(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModelWithProjection:
    """An untrained encoder: 3 layers of width 128, 0.5 million parameters."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH,
            projection_dim=WIDTH, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=LENGTH, hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Token ids (batch, 77), padded with the end token."""
    found = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH)
    return torch.tensor(found["input_ids"])


@torch.no_grad()
def embed(
    encoder: CLIPTextModelWithProjection, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> tuple[Tensor, Tensor]:
    """Embeddings (batch, 77, 128) of the last layer but one, and pooled (batch, 128), as SDXL."""
    out = encoder(tokens(tokenizer, texts), output_hidden_states=True)
    return out.hidden_states[-2], out.text_embeds


# --- the warm-up ---------------------------------------------------------------------------------

# What is asked of a caption, and how many answers there are; answer 0 is "not said".
_QUESTIONS = {
    "shape0": len(SHAPES) + 1, "colour0": len(COLOURS) + 1,
    "shape1": len(SHAPES) + 1, "colour1": len(COLOURS) + 1,
    "count": 7, "relation": len(RELATIONS) + 1, "style": len(STYLES) + 1,
    "backdrop": len(BACKDROPS) + 1, **dict.fromkeys(_TAGS, 2),
    # The same of the picture: of two objects, which is left or above, and how they are laid out.
    "near shape": len(SHAPES) + 1, "near colour": len(COLOURS) + 1,
    "far shape": len(SHAPES) + 1, "far colour": len(COLOURS) + 1, "axis": 3,
}  # fmt: skip


def _answers(spec: Spec, tags: set[str]) -> list[int]:
    def number(name: str | None, known: tuple[str, ...]) -> int:
        return 1 + known.index(name) if name else 0

    def about(item: Item | None) -> list[int]:
        return [number(item.shape, SHAPES), number(item.colour, COLOURS)] if item else [0, 0]

    items: list[Item | None] = [*spec.items, None, None][:2]
    said = about(items[0]) + about(items[1])
    said += [spec.items[0].count if spec.items else 0, number(spec.relation, RELATIONS)]
    said += [number(spec.style, STYLES), number(spec.backdrop, BACKDROPS)]
    said += [int(tag in tags) for tag in _TAGS]
    near, far = reversed(items) if spec.relation in ("right of", "below") else items
    axis = 0 if len(spec.items) < 2 else 1 + (spec.relation in ("above", "below"))
    return [*said, *about(near), *about(far), axis]


def _question(rng: random.Random) -> tuple[str, list[int]]:
    """A caption with tags, strange words strewn in, or a bare negative; and what it says."""
    tags = {t for t in _TAGS if rng.random() < 0.15}
    if rng.random() < 0.08:
        return ", ".join(sorted(tags)), _answers(Spec(()), tags)
    text, spec = random_text(rng)
    if rng.random() < 0.3:
        parts = text.split(" ")
        for _ in range(rng.randint(1, 3)):
            parts.insert(rng.randint(0, len(parts)), "zzz")
        text = " ".join(parts)
    return ", ".join([*sorted(tags), text]), _answers(spec, tags)


class Reader(nn.Module):
    """Linear heads that answer every question from the pooled vector and from the hidden end token."""

    def __init__(self) -> None:
        super().__init__()
        total = sum(_QUESTIONS.values())
        self.pooled, self.hidden = nn.Linear(WIDTH, total), nn.Linear(WIDTH, total)

    def loss(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Sum of the questions' cross entropies; logits (batch, all answers), answers (batch, questions)."""
        parts = logits.split(list(_QUESTIONS.values()), dim=-1)
        losses = [nn.functional.cross_entropy(p, a) for p, a in zip(parts, answers.T, strict=True)]
        return torch.stack(losses).sum()


def _unevenness(embedding: Tensor) -> Tensor:
    """How far the channels of (..., channels) are from mean 0 and mean square 1."""
    flat = embedding.flatten(0, -2)
    return flat.mean(0).pow(2).mean() + (flat.pow(2).mean(0) - 1).pow(2).mean()


def text_loss(
    encoder: CLIPTextModelWithProjection,
    tokenizer: PreTrainedTokenizerFast,
    reader: Reader,
    batch: int = 64,
) -> Loss:
    """Answer the questions, and keep both embeddings centred and near unit variance.

    Without that pull the hidden states grow a large constant part, which slows down whatever attends
    to them.
    """

    def loss(chance: Chance) -> Tensor:
        texts, answers = zip(*(_question(chance.python) for _ in range(batch)), strict=True)
        ids = tokens(tokenizer, list(texts))[:, :40]  # causal: what follows changes nothing here
        out = encoder(ids, output_hidden_states=True)
        ends = (ids == tokenizer.eos_token_id).int().argmax(-1)
        hidden = out.hidden_states[-2][torch.arange(batch), ends]
        truth = torch.tensor(answers)
        asked = reader.loss(reader.pooled(out.text_embeds), truth)
        asked = asked + 0.5 * reader.loss(reader.hidden(hidden), truth)
        return asked + 0.1 * _unevenness(out.text_embeds) + 0.1 * _unevenness(out.hidden_states[-2])

    return loss
