"""What an axis can vary: one table of kinds, each with its way to read values and to change a request.

A kind is a row of `KINDS`: a setting of the policy (guidance, temperature), what is designed for (prompt,
seed), or a component of the workflow that is fixed by hand (checkpoint, sampler, steps), one for each group
of words of the language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from flowdesign.ablation.ranges import numbers, plain, whole_numbers
from flowdesign.catalog import suggest
from flowdesign.policies import Known, Policies
from flowdesign.request import BadRequest, Request
from flowdesign.tokens import Automaton
from flowdesign.tokens.restriction import SEVERAL, values_of
from flowdesign.tokens.vocabulary import NONE

FREE = "free"  # a component that the policy chooses, to compare fixed ones with
ALL = "all"
ALWAYS = frozenset(
    {"ckpt", "size", "sampler", "scheduler", "steps", "cfg"}
)  # no sentence lacks one


@dataclass(frozen=True)
class Offer:
    """What there is to choose from: policies, the language, and the prompts and seeds of the setting."""

    policies: Policies
    language: Automaton
    prompts: Sequence[str]
    seeds: Sequence[int]

    @cached_property
    def there(self) -> dict[str, Known]:
        """The policies that are there, by name, the usual one first."""
        return {one.name: one for one in self.policies.all()}

    def policy(self, name: str) -> Known:
        """The policy of this name, the usual one for none. Raises BadRequest."""
        return self.there.get(name) or self.policies.known(name)

    @property
    def guided(self) -> list[str]:
        """The policies that GRPO improved, so that there is guidance."""
        return [one.name for one in self.there.values() if one.start is not None]


@dataclass(frozen=True)
class Value:
    """A place on an axis: what is written there, what it is, and where it lies if that is a number."""

    label: str
    given: Any
    number: float | None = None


Read = Callable[[str, Offer], tuple[Value, ...]]
Put = Callable[[Request, Any], Request]


@dataclass(frozen=True)
class Kind:
    """One thing that an axis can vary. `typed` is False where the values stand elsewhere in the setting."""

    name: str
    title: str
    example: str
    read: Read
    put: Put
    typed: bool = True


def kind_of(name: str) -> Kind:
    """The kind of this name. Raises BadRequest."""
    if name not in KINDS:
        raise BadRequest(f"Unknown axis '{name[:40]}'. {suggest(name, KINDS)}")
    return KINDS[name]


# --- settings of the policy


def _option(option: str) -> Put:
    """Change one field of the request."""
    return lambda request, given: replace(request, **{option: given})


def _decimals(sign: str) -> Read:
    def read(text: str, offer: Offer) -> tuple[Value, ...]:
        return tuple(
            Value(f"{sign} = {plain(one)}".replace("-", "\N{MINUS SIGN}"), float(one), float(one))
            for one in numbers(text)
        )

    return read


def _designs(text: str, offer: Offer) -> tuple[Value, ...]:
    return tuple(Value(f"best of {one}", one, float(one)) for one in whole_numbers(text))


def _policies(text: str, offer: Offer) -> tuple[Value, ...]:
    known = list(offer.there)
    names = known if text.strip() == ALL else [name.strip() for name in text.split(",")]
    found = [offer.policy(name).name for name in dict.fromkeys(filter(None, names))]
    if not found:
        raise BadRequest(f"No policies are given. Name some of: {', '.join(known)}.")
    return tuple(Value(name, name) for name in found)


def _guidance(text: str, offer: Offer) -> tuple[Value, ...]:
    if not offer.guided:
        raise BadRequest(
            "Guidance lies between two policies: one, and what GRPO made of it. No policy that GRPO "
            "improved is here yet. Train one, python -m flowdesign grpo, or choose another axis."
        )
    return _decimals("s")(text, offer)


# --- what is designed for


def _nothing(text: str, offer: Offer) -> tuple[Value, ...]:
    return (Value("", None),)


def _prompts(text: str, offer: Offer) -> tuple[Value, ...]:
    return tuple(Value(prompt, prompt) for prompt in offer.prompts)


def _seeds(text: str, offer: Offer) -> tuple[Value, ...]:
    return tuple(Value(f"seed {seed}", seed) for seed in offer.seeds)


# --- components that are fixed by hand


def _words(group: str) -> Read:
    """Read the values of one group of words: those of the language, "none", "free" or "all"."""

    def read(text: str, offer: Offer) -> tuple[Value, ...]:
        names = _named(group, text, list(values_of(offer.language.vocabulary)[group]))
        return tuple(_word(group, name) for name in dict.fromkeys(names))

    return read


def _named(group: str, text: str, values: list[str]) -> list[str]:
    """The values in a text; one may hold a comma itself, and numbers may come as a range."""
    known = [*values, NONE, FREE]
    pieces = [piece.strip() for piece in text.replace("\n", ",").split(",") if piece.strip()]
    if not pieces:
        raise BadRequest(f"No values are given. {_possible(group, known)}")
    found: list[str] = []
    while pieces:
        sizes = range(len(pieces), 0, -1)
        size = next((size for size in sizes if ", ".join(pieces[:size]) in known), 0)
        if size:
            found.append(", ".join(pieces[:size]))
        else:
            found += values if pieces[0] == ALL else _counted(group, pieces[0], known)
        pieces = pieces[max(1, size) :]
    return found


def _counted(group: str, piece: str, known: Sequence[str]) -> list[str]:
    """The known values in a range of numbers. Raises BadRequest."""
    try:
        wanted = [plain(number) for number in numbers(piece)]
    except BadRequest:
        wanted = [piece]
    if odd := next((one for one in wanted if one not in known), None):
        raise BadRequest(f"There is no {TITLES[group]} '{odd[:60]}'. {_possible(group, known)}")
    return wanted


def _possible(group: str, known: Sequence[str]) -> str:
    names = [name for name in dict.fromkeys(known) if name != NONE or group not in ALWAYS]
    return f"Name some of: {', '.join(names)}; or {ALL}."


def _word(group: str, name: str) -> Value:
    try:
        number = None if group in SEVERAL else float(name)
    except ValueError:
        number = None
    label = f"{TITLES[group]}: {'left free' if name == FREE else name}"
    return Value(label, "" if name == FREE else f"{group}:{name}", number)


def _fix(request: Request, given: str) -> Request:
    return replace(request, fixed=(*request.fixed, given)) if given else request


# What people call the groups of words, in the order of a sentence.
TITLES: Mapping[str, str] = MappingProxyType({
    "ckpt": "checkpoint",
    "lora": "LoRA",
    "strength": "LoRA strength",
    "clip_skip": "clip skip",
    "vae": "VAE",
    "freeu": "FreeU",
    "pag": "PAG",
    "prefix": "prefix",
    "concat": "second prefix",
    "negative": "negative text",
    "size": "size",
    "sampler": "sampler",
    "scheduler": "schedule",
    "steps": "steps",
    "cfg": "cfg",
    "denoise": "denoise of later passes",
    "pass": "further pass",
    "model": "checkpoint of later passes",
    "switch": "switch to the refiner",
    "method": "latent resize",
    "upscaler": "upscaler",
    "resize": "image resize",
    "scale": "scale of a resize",
})  # fmt: skip

_EXAMPLES = {"steps": "4-12 (+4)", "cfg": "1-5", "ckpt": ALL, "size": "64x64, 96x96"}

_ROWS = (
    Kind("none", "nothing", "", _nothing, lambda request, given: request, typed=False),
    Kind("guidance", "guidance s", "0-2 [5]", _guidance, _option("scale")),
    Kind("prompt", "prompt", "", _prompts, _option("prompt"), typed=False),
    Kind("seed", "seed", "", _seeds, _option("seed"), typed=False),
    Kind("temperature", "temperature", "0.5, 1, 1.5", _decimals("T"), _option("temperature")),
    Kind("top_p", "top-p", "0.5-1 [3]", _decimals("top-p"), _option("top_p")),
    Kind("policy", "policy", ALL, _policies, _option("policy")),
    Kind("best_of", "best of N", "1, 4, 16", _designs, _option("count")),
    *(
        Kind(group, f"fixed {title}", _EXAMPLES.get(group, ALL), _words(group), _fix)
        for group, title in TITLES.items()
    ),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ROWS})
