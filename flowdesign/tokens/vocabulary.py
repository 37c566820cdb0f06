"""The words of the language, derived from the catalogue and the node declarations.

`vocabulary.txt` beside this file freezes the order in which words were first shipped: ids index
the rows of a trained policy, so words are only ever appended. A word that is declared and not yet
in the file comes after those that are; a test asks for the line to be added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from flowdesign.catalog import ASSETS, FAMILIES, NEGATIVES, PREFIXES, SCHEDULERS, suggest
from flowdesign.catalog import SAMPLERS as SAMPLER_NAMES
from flowdesign.nodes import NODES

FROZEN = Path(__file__).parent / "vocabulary.txt"
NONE = "none"  # the value of a choice against
ZERO = "zero"  # the negative text is the positive one, zeroed
BASE = "base"  # a later pass uses the first checkpoint with its LoRAs and patches
PASSES = ("refine", "latent", "pixel")
SWITCHES = (0.25, 0.5, 0.75)  # the share of steps before the second checkpoint takes over


class VocabularyError(ValueError):
    """A vocabulary was used wrongly.

    VocabularyError
    ├── UnknownToken            no word is written like this
    └── VocabularyMismatch      a saved vocabulary is not one that this version understands
    """


class UnknownToken(VocabularyError):
    """No word of the vocabulary is written like this; the message suggests one."""


class VocabularyMismatch(VocabularyError):
    """A saved vocabulary has words this version lacks, or is not the one that was expected."""


class Word(NamedTuple):
    """One choice: the group says what is chosen, the value what it is."""

    group: str
    value: Any

    def __str__(self) -> str:
        return END if self.group == "end" else f"<{self.group}:{_text(self.value)}>"


END_WORD = Word("end", None)
END = "<end>"  # the token of every sentence's end


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(str(side) for side in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bins(class_type: str, name: str) -> tuple[Any, ...]:
    return NODES[class_type].input(name).bins


def _assets(kind: str) -> tuple[str, ...]:
    return tuple(row.name for row in ASSETS if row.kind == kind)


def phrase(text: str) -> str:
    """Return a prefix without the comma that joins it to the prompt."""
    return text.rstrip(", ")


def groups() -> dict[str, tuple[Any, ...]]:
    """Return what can be chosen, in the order of a sentence: group -> values."""
    phrases = tuple(phrase(text) for text in PREFIXES if text)
    sizes = (size for family in FAMILIES.values() for size in family.sizes)
    return {
        "ckpt": _assets("checkpoints"),
        "lora": (NONE, *_assets("loras")),
        "strength": _bins("LoraLoader", "strength_model"),
        "clip_skip": (NONE, *_bins("CLIPSetLastLayer", "stop_at_clip_layer")),
        "vae": (NONE, *_assets("vae")),
        "freeu": (NONE, *NODES["FreeU_V2"].presets),
        "pag": (NONE, *_bins("PerturbedAttentionGuidance", "scale")),
        "prefix": (NONE, *phrases),
        "concat": (NONE, *phrases),
        "negative": (NONE, *(text for text in NEGATIVES if text), ZERO),
        "size": tuple(dict.fromkeys(sizes)),
        "sampler": SAMPLER_NAMES,
        "scheduler": SCHEDULERS,
        "steps": _bins("KSampler", "steps"),
        "cfg": _bins("KSampler", "cfg"),
        "denoise": _bins("KSampler", "denoise"),
        "pass": PASSES,
        "model": (BASE, *_assets("checkpoints")),
        "switch": SWITCHES,
        "method": _bins("LatentUpscaleBy", "upscale_method"),
        "upscaler": _assets("upscale_models"),
        "resize": _bins("ImageScaleBy", "upscale_method"),
        "scale": _bins("ImageScaleBy", "scale_by"),
        "end": (None,),
    }


WORDS: dict[str, Word] = {
    str(word): word
    for group, values in groups().items()
    for word in (Word(group, v) for v in values)
}


class Vocabulary:
    """A frozen list of tokens. A token's id is its index, and the hash names the list."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = tuple(tokens)
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        unknown = [token for token in self.tokens if token not in WORDS]
        if unknown:
            message = f"This version has no token {unknown[0]!r}. {suggest(unknown[0], WORDS)}"
            raise VocabularyMismatch(message)
        if len(self._ids) != len(self.tokens):
            raise VocabularyMismatch("A vocabulary lists no token twice.")
        self.words = tuple(WORDS[token] for token in self.tokens)
        self._word_ids = {word: index for index, word in enumerate(self.words)}

    @classmethod
    def default(cls) -> Vocabulary:
        """Return the frozen tokens, then those declared since."""
        frozen = FROZEN.read_text(encoding="utf-8").splitlines() if FROZEN.exists() else []
        return cls(dict.fromkeys([*frozen, *WORDS]))

    def check_places(self, owner: str, command: str) -> None:
        """Check that ids of a saved vocabulary mean here what they meant when it was saved.

        Ids are places in the list, and words are only ever appended; so an older vocabulary is a
        first part of this version's. Raises VocabularyMismatch that names the `owner` of the saved
        one and the `command` that makes another.
        """
        for place, (saved, ours) in enumerate(zip(self.tokens, VOCABULARY.tokens, strict=False)):
            if saved != ours:
                raise VocabularyMismatch(
                    f"{owner} has another vocabulary: its token {place} is {saved}, here it is "
                    f"{ours}. Train one for this version: {command}"
                )

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def index(self, token: str) -> int:
        """Return a token's id; raises UnknownToken."""
        if token not in self._ids:
            group = token.partition(":")[0] + ":"
            alike = [each for each in self.tokens if each.startswith(group)]
            raise UnknownToken(
                f"Unknown token {token[:60]!r}. {suggest(token, alike or self.tokens)}"
            )
        return self._ids[token]

    def id_of(self, word: Word) -> int | None:
        """Return the id of a word, or None when this vocabulary is older than the word."""
        return self._word_ids.get(word)

    @property
    def end(self) -> int:
        """The id of the token that ends every sentence."""
        return self.index(END)

    @cached_property
    def hash(self) -> str:
        """The sha256 of the list; it is saved beside every policy."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    def require(self, other: Vocabulary) -> None:
        """Raise VocabularyMismatch unless the other list is the same."""
        if self == other:
            return
        pairs = enumerate(zip(self.tokens, other.tokens, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(self), len(other)))
        raise VocabularyMismatch(
            f"The vocabularies differ from token {at} on: {len(self)} tokens here "
            f"({self.hash[:12]}), {len(other)} there ({other.hash[:12]})."
        )

    def to_json(self) -> str:
        """Return the vocabulary as JSON text: {"hash", "tokens"}."""
        return json.dumps({"hash": self.hash, "tokens": self.tokens}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Read `to_json`; raises VocabularyMismatch if this version does not know it."""
        try:
            saved = json.loads(text)
            tokens, digest = [str(token) for token in saved["tokens"]], saved["hash"]
        except (ValueError, KeyError, TypeError) as error:
            raise VocabularyMismatch(f"This is not a saved vocabulary: {error}") from error
        vocabulary = cls(tokens)
        if vocabulary.hash != digest:
            raise VocabularyMismatch("The saved vocabulary does not match its own hash.")
        return vocabulary


VOCABULARY = Vocabulary.default()
