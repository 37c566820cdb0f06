"""Who says the workflows of a collection that are not merely random: a policy, a redraw, a search, one after the other.

A reward ensemble errs most where nobody has looked, and a policy that is improved against it goes there. So what
a search under the ensemble finds (`search`) is rendered, and the next ensemble learns from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from flowdesign import runs
from flowdesign.catalog import Installed
from flowdesign.collect.plan import Sayer
from flowdesign.collect.redrawing import read_groups, redrawn
from flowdesign.config import CollectConfig, ConfigError
from flowdesign.search import Sentence, search
from flowdesign.tokens import VOCABULARY, Automaton, random_sentence, sentence_text

# (prompts, how many for each, seed) -> sentences for each prompt
Starts = Callable[[Sequence[str], int, int], list[list[Sentence]]]
# (prompts, a sentence for each, seed) -> what they are changed to
Change = Callable[[Sequence[str], Sequence[Sentence], int], list[Sentence]]


def open_sayer(config: CollectConfig, models: Installed) -> Sayer:
    """Load what the config names and give a function that says workflows.

    Raises ConfigError; the function does so for an ensemble that lacks a word of this version.
    """
    import torch

    torch.set_num_threads(config.threads)
    language = Automaton(VOCABULARY, models)
    starts = _walks(language) if config.is_random else _policy(config, models)
    steps = [_redraw(config, language)] if config.redrawn else []
    steps += [_search(config, language)] if config.searched else []

    def say(prompts: Sequence[str], count: int, seed: int) -> list[list[str]]:
        rows = starts(prompts, count, seed)
        each = [prompt for prompt, row in zip(prompts, rows, strict=True) for _ in row]
        said = [one for row in rows for one in row]
        for step in steps:
            said = step(each, said, seed)
        words = iter([sentence_text(one, VOCABULARY) for one in said])
        return [[next(words) for _ in row] for row in rows]

    return say


def _walks(language: Automaton) -> Starts:
    """Walks through the grammar."""

    def say(prompts: Sequence[str], count: int, seed: int) -> list[list[Sentence]]:
        rng = random.Random(f"collect/walks/{seed}")
        return [[random_sentence(language, rng) for _ in range(count)] for _ in prompts]

    return say


def _policy(config: CollectConfig, models: Installed) -> Starts:
    """Samples of the policy."""
    from flowdesign.policy import Policy, PolicyError
    from flowdesign.sampling import roll

    try:
        policy = Policy.load(runs.folder_of(config.policy), device=config.device, models=models)
    except PolicyError as fault:
        raise ConfigError(f"policy: {fault}") from None

    def say(prompts: Sequence[str], count: int, seed: int) -> list[list[Sentence]]:
        return roll(policy, prompts, count, seed, config.temperature)

    return say


def _redraw(config: CollectConfig, language: Automaton) -> Change:
    """Some of its choices drawn anew."""
    kinds = read_groups(config.redrawn)

    def change(_: Sequence[str], said: Sequence[Sentence], seed: int) -> list[Sentence]:
        rng = random.Random(f"collect/redrawn/{seed}")
        return [redrawn(one, kinds, language, rng) for one in said]

    return change


def _search(config: CollectConfig, language: Automaton) -> Change:
    """Changed to what the ensemble expects much of."""
    from flowdesign.reward.bound import open_bound
    from flowdesign.reward.ensemble import RewardError

    try:
        bound = open_bound(config.searched, config.trust, config.device, config.threads)
    except RewardError as fault:
        raise ConfigError(f"searched: {fault}") from None

    def change(prompts: Sequence[str], said: Sequence[Sentence], seed: int) -> list[Sentence]:
        try:
            found = search(bound, prompts, said, language, config.sweeps, config.heat, seed)
        except RewardError as fault:  # a word that it never learned
            raise ConfigError(f"searched: {fault}") from None
        return [one.sentence for one in found]

    return change
