"""Which choice may follow which: the grammar of a sentence.

A state keeps only what later choices depend on, so few states exist and all of them can be counted.
Each phase yields its words with the state that follows; the automaton removes dead ends.

    sentence := ckpt loras clip_skip vae freeu pag prefix concat negative size sampling later* final end
    loras    := (lora strength){0..3}, closed by lora:none when fewer than three
    sampling := sampler scheduler steps cfg
    later    := pass:refine model switch cfg                               once, after the first pass
              | pass:latent method scale model sampling denoise
              | pass:pixel (upscaler [resize scale] | resize scale) model sampling denoise
    final    := [upscaler [resize scale] | resize scale]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from flowdesign.catalog import FAMILIES, Family, Installed, asset
from flowdesign.tokens.vocabulary import BASE, END_WORD, NONE, Word, groups

MAX_LORAS = 3
MAX_PASSES = 3
ROUNDING = 0.01  # 1.33 stands for 4/3: how far, relatively, a size may be from the whole one
_VALUES = groups()


class State(NamedTuple):
    """Where in a sentence we are: what the rest of it depends on."""

    phase: str
    base: str = ""  # the first checkpoint
    second: str = ""  # the other checkpoint, once one was chosen
    lora: int = 0  # the LoRAs before this one are behind us
    loras: int = 0
    passes: int = 0
    width: int = 0  # of the latest latent or image, in pixels
    height: int = 0
    least: int = 0  # no resize ends with a width below this, the latest sampled one
    target: str = ""  # what a resize leads to: a latent or pixel pass, or the final image


START = State("ckpt")
DONE = State("done")
Following = Iterator[tuple[Word, State]]

# The choices that every sentence makes, in order, and nothing later depends on.
_SIMPLE = {
    "clip_skip": "vae",
    "vae": "freeu",
    "freeu": "pag",
    "pag": "prefix",
    "prefix": "concat",
    "concat": "negative",
    "negative": "size",
    "sampler": "scheduler",
    "scheduler": "steps",
    "steps": "cfg",
    "denoise": "after",
    "switch": "cfg",
}


class Grammar:
    """The choices from each state, given what is installed."""

    def __init__(self, installed: Installed) -> None:
        self._installed = {
            group: frozenset(installed.names(kind))
            for group, kind in (
                ("ckpt", "checkpoints"),
                ("model", "checkpoints"),
                ("lora", "loras"),
                ("vae", "vae"),
                ("upscaler", "upscale_models"),
            )
        }

    def choices(self, state: State) -> Following:
        """Yield every word that may follow with the state it leads to; dead ends included."""
        if state.phase in _SIMPLE:
            following = state._replace(phase=_SIMPLE[state.phase])
            for word in self._words(state.phase, state):
                yield word, following
        elif state.phase != DONE.phase:
            yield from _PHASES[state.phase](self, state)

    def _words(self, group: str, state: State) -> Iterator[Word]:
        """Yield the words of a group that are installed and fit the checkpoint's family."""
        names = self._installed.get(group)
        for value in _VALUES[group]:
            if (
                names is None
                or value in (NONE, BASE)
                or (value in names and _fits(group, value, state))
            ):
                yield Word(group, value)

    def _checkpoint(self, state: State) -> Following:
        for word in self._words("ckpt", state):
            yield word, State("lora", base=word.value)

    def _lora(self, state: State) -> Following:
        closed = state._replace(phase="clip_skip", lora=0, loras=0)
        for word in self._words("lora", state):
            index = _VALUES["lora"].index(word.value)
            if word.value == NONE:
                yield word, closed
            elif index > state.lora:
                yield word, state._replace(phase="strength", lora=index, loras=state.loras + 1)

    def _strength(self, state: State) -> Following:
        full = state.loras == MAX_LORAS
        following = (
            state._replace(phase="clip_skip", lora=0, loras=0)
            if full
            else state._replace(phase="lora")
        )
        for word in self._words("strength", state):
            yield word, following

    def _size(self, state: State) -> Following:
        for width, height in _family(state).sizes:
            yield (
                Word("size", (width, height)),
                state._replace(phase="sampler", width=width, height=height),
            )

    def _cfg(self, state: State) -> Following:
        refined = state.target == "refine"
        later = "denoise" if state.passes and not refined else "after"
        following = state._replace(
            phase=later, passes=state.passes + 1, least=state.width, target=""
        )
        for word in self._words("cfg", state):
            yield word, following

    def _after(self, state: State) -> Following:
        if state.passes < MAX_PASSES:
            if state.passes == 1:
                yield Word("pass", "refine"), state._replace(phase="model", target="refine")
            yield Word("pass", "latent"), state._replace(phase="method", target="latent")
            yield Word("pass", "pixel"), state._replace(phase="enlarge", target="pixel")
        yield from self._enlarge(state._replace(target="final"))
        yield END_WORD, DONE

    def _method(self, state: State) -> Following:
        for word in self._words("method", state):
            yield word, state._replace(phase="scale")

    def _enlarge(self, state: State) -> Following:
        """An upscale model, which a resize may follow, or a resize alone."""
        for word in self._words("upscaler", state):
            row = asset("upscale_models", word.value)
            scale = row.scale if row else 1
            larger = state._replace(
                phase="reduce", width=state.width * scale, height=state.height * scale
            )
            if max(larger.width, larger.height) <= _family(state).max_image:
                yield word, larger
        for word in self._words("resize", state):
            yield word, state._replace(phase="scale")

    def _reduce(self, state: State) -> Following:
        for word in self._words("resize", state):
            yield word, state._replace(phase="shrink")
        yield from self._resized(state)

    def _scale(self, state: State) -> Following:
        yield from self._scales(state, enlarge=True)

    def _shrink(self, state: State) -> Following:
        yield from self._scales(state, enlarge=False)

    def _scales(self, state: State, enlarge: bool) -> Following:
        for word in self._words("scale", state):
            if (word.value > 1) == enlarge:
                sides = [
                    _scaled(side, word.value, self._unit(state))
                    for side in (state.width, state.height)
                ]
                if all(sides) and sides[0] >= state.least:
                    resized = state._replace(width=sides[0], height=sides[1])
                    yield from ((word, following) for following in self._landing(resized))

    def _unit(self, state: State) -> int:
        return 1 if state.target == "final" else _family(state).multiple

    def _landing(self, state: State) -> Iterator[State]:
        """Yield the state after a resize, if its size is allowed."""
        family = _family(state)
        limit = family.max_image if state.target == "final" else family.max_sampling
        if max(state.width, state.height) <= limit:
            final = state.target == "final"
            yield state._replace(phase="end" if final else "model", least=0)

    def _resized(self, state: State) -> Following:
        """The choices after a resize is complete, without a word of its own."""
        unit = self._unit(state)
        if state.width % unit == 0 and state.height % unit == 0:
            for following in self._landing(state):
                yield from self.choices(following)

    def _model(self, state: State) -> Following:
        refine = state.target == "refine"
        following = state._replace(phase="switch" if refine else "sampler", least=0)
        for word in self._words("model", state):
            if word.value == BASE and not refine:
                yield word, following
            elif word.value not in (BASE, state.base) and state.second in ("", word.value):
                yield word, following._replace(second=word.value)

    def _end(self, state: State) -> Following:
        yield END_WORD, DONE


def _family(state: State) -> Family:
    row = asset("checkpoints", state.base)
    return FAMILIES[row.family if row else ""]


def _fits(group: str, name: str, state: State) -> bool:
    """Whether an asset is of the family of the sentence's checkpoint; upscale models fit all."""
    if group in ("ckpt", "upscaler"):
        return True
    kind = {"model": "checkpoints", "lora": "loras"}.get(group, group)
    row = asset(kind, name)
    return row is not None and row.family in ("any", _family(state).name)


def _scaled(side: int, scale: float, unit: int) -> int:
    """Return a side after a resize, or 0 if it is not a whole number of units."""
    exact = side * scale / unit
    whole = round(exact)
    return whole * unit if whole and abs(exact - whole) <= ROUNDING * exact else 0


_PHASES: dict[str, Callable[[Grammar, State], Following]] = {
    "ckpt": Grammar._checkpoint,
    "lora": Grammar._lora,
    "strength": Grammar._strength,
    "size": Grammar._size,
    "cfg": Grammar._cfg,
    "after": Grammar._after,
    "method": Grammar._method,
    "enlarge": Grammar._enlarge,
    "reduce": Grammar._reduce,
    "scale": Grammar._scale,
    "shrink": Grammar._shrink,
    "model": Grammar._model,
    "end": Grammar._end,
}
