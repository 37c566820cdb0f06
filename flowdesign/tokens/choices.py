"""A sentence as a tree: what a workflow chooses, between its tokens and its graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flowdesign.tokens.grammar import MAX_LORAS
from flowdesign.tokens.vocabulary import BASE, END_WORD, NONE, Word


@dataclass(frozen=True)
class Resize:
    """An upscale model and a resize by a factor, either of which may be absent (empty, 1)."""

    upscaler: str = ""
    method: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Pass:
    """One sampling pass. A refine pass shares sampler, schedule and steps with the one before."""

    kind: str  # first, refine, latent or pixel
    cfg: float
    sampler: str = ""
    scheduler: str = ""
    steps: int = 0
    denoise: float = 1.0
    model: str = BASE
    switch: float = 0.0
    resize: Resize = Resize()


@dataclass(frozen=True)
class Choices:
    """All the choices of a sentence; None is a choice against."""

    checkpoint: str
    loras: tuple[tuple[str, float], ...]
    clip_skip: int | None
    vae: str | None
    freeu: str | None
    pag: float | None
    prefix: str | None
    concat: str | None
    negative: str | None
    size: tuple[int, int]
    passes: tuple[Pass, ...]
    final: Resize = Resize()


class _Words:
    """Reads the words of a sentence that the automaton has accepted."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = words
        self._at = 0

    def at(self, group: str) -> bool:
        return self._words[self._at].group == group

    def take(self, group: str) -> Any:
        """Return the value of the next word, None for a choice against; it is of the group."""
        word = self._words[self._at]
        assert word.group == group, f"expected {group}, found {word}"
        self._at += 1
        return None if word.value == NONE else word.value


def choices_of(words: Sequence[Word]) -> Choices:
    """Return the choices that an accepted sentence makes."""
    reader = _Words(words)
    return Choices(
        checkpoint=reader.take("ckpt"),
        loras=tuple(_loras(reader)),
        clip_skip=reader.take("clip_skip"),
        vae=reader.take("vae"),
        freeu=reader.take("freeu"),
        pag=reader.take("pag"),
        prefix=reader.take("prefix"),
        concat=reader.take("concat"),
        negative=reader.take("negative"),
        size=reader.take("size"),
        passes=tuple(_passes(reader)),
        final=_resize(reader),
    )


def _loras(reader: _Words) -> Iterator[tuple[str, float]]:
    for _ in range(MAX_LORAS):
        name = reader.take("lora")
        if name is None:
            return
        yield name, reader.take("strength")


def _passes(reader: _Words) -> Iterator[Pass]:
    yield Pass("first", **_sampling(reader))
    while reader.at("pass"):
        kind = reader.take("pass")
        if kind == "refine":
            model, switch = reader.take("model"), reader.take("switch")
            yield Pass(kind, cfg=reader.take("cfg"), model=model, switch=switch)
        else:
            resize = _latent_resize(reader) if kind == "latent" else _resize(reader)
            model, sampling = reader.take("model"), _sampling(reader)
            denoise = reader.take("denoise")
            yield Pass(kind, **sampling, denoise=denoise, model=model, resize=resize)


def _sampling(reader: _Words) -> dict[str, Any]:
    return {name: reader.take(name) for name in ("sampler", "scheduler", "steps", "cfg")}


def _latent_resize(reader: _Words) -> Resize:
    return Resize(method=reader.take("method"), scale=reader.take("scale"))


def _resize(reader: _Words) -> Resize:
    upscaler = reader.take("upscaler") if reader.at("upscaler") else ""
    if not reader.at("resize"):
        return Resize(upscaler)
    return Resize(upscaler, reader.take("resize"), reader.take("scale"))


def words_of(choices: Choices) -> tuple[Word, ...]:
    """Return the sentence of choices: the inverse of `choices_of`."""
    words = [Word("ckpt", choices.checkpoint)]
    for name, strength in choices.loras:
        words += [Word("lora", name), Word("strength", strength)]
    if len(choices.loras) < MAX_LORAS:
        words.append(Word("lora", NONE))
    for group in ("clip_skip", "vae", "freeu", "pag", "prefix", "concat", "negative"):
        value = getattr(choices, group)
        words.append(Word(group, NONE if value is None else value))
    words.append(Word("size", choices.size))
    for each in choices.passes:
        words += _pass_words(each)
    return (*words, *_resize_words(choices.final, "resize"), END_WORD)


def _pass_words(each: Pass) -> list[Word]:
    sampling = [Word(n, getattr(each, n)) for n in ("sampler", "scheduler", "steps", "cfg")]
    if each.kind == "first":
        return sampling
    head, model = Word("pass", each.kind), Word("model", each.model)
    if each.kind == "refine":
        return [head, model, Word("switch", each.switch), Word("cfg", each.cfg)]
    resize = _resize_words(each.resize, "method" if each.kind == "latent" else "resize")
    return [head, *resize, model, *sampling, Word("denoise", each.denoise)]


def _resize_words(resize: Resize, group: str) -> list[Word]:
    words = [Word("upscaler", resize.upscaler)] if resize.upscaler else []
    if resize.method:
        words += [Word(group, resize.method), Word("scale", resize.scale)]
    return words
