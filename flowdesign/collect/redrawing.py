"""Some choices of a sentence drawn anew, so that all their values are tried where all else is as a policy has it.

Random workflows are mostly poor, so what a LoRA does for its prompts drowns in what else is wrong: of 45,442 shipped
images 184 have the right checkpoint and only the LoRA that their prompt wants. Around what a policy says it shows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from flowdesign.catalog import suggest
from flowdesign.config import ConfigError, listed
from flowdesign.tokens import VOCABULARY, Automaton
from flowdesign.tokens.variants import alternatives, changed
from flowdesign.tokens.vocabulary import groups


def read_groups(text: str) -> list[str]:
    """The kinds of choices in a list by comma. Raises ConfigError."""
    known = groups()
    for name in listed(text):
        if name not in known:
            raise ConfigError(f"redrawn: unknown choice '{name}'. {suggest(name, known)}")
    return listed(text)


def redrawn(
    sentence: Sequence[int], kinds: Sequence[str], language: Automaton, rng: random.Random
) -> tuple[int, ...]:
    """The sentence with the first choice of each kind drawn anew, each value as likely, and a rest that fits."""
    said = tuple(sentence)
    for kind in kinds:
        places = (at for at, token in enumerate(said) if VOCABULARY.words[token].group == kind)
        if (place := next(places, None)) is not None:
            token = rng.choice([said[place], *alternatives(said, place, language)])
            said = changed(said, place, token, language, rng)
    return said
