"""The expensive upper bound: workflows that are searched for by rendering and judging, prompt by prompt.

As ComfyGI does (arXiv 2411.14193): change the best workflow so far, render, keep what scores better. It starts
from all that the other contestants chose for the prompt, so it is no worse than the best of them by the
images it is chosen by; what it found is measured with other seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence

from flowdesign.collect.plan import Pair
from flowdesign.config import EvaluateConfig, Step
from flowdesign.evaluate.setting import Sentence, pairs_for, seed_of
from flowdesign.search import changes
from flowdesign.tokens import Automaton, sentence_text

# Renders pairs, a step for every batch, and gives the mean combined score of each.
Judge = Callable[[Sequence[Pair]], Generator[Step, None, list[float]]]


def climb(
    judge: Judge,
    prompts: Sequence[str],
    starts: Sequence[Sequence[Sentence]],
    language: Automaton,
    config: EvaluateConfig,
) -> Generator[Step, None, list[Sentence]]:
    """The best sentence found for each prompt; a step for every batch of images. The same whenever it is done
    again, since what it draws follows from the seed, the prompt and the round."""
    best: list[tuple[float, Sentence]] = [(float("-inf"), ()) for _ in prompts]
    options = [list(dict.fromkeys(row)) for row in starts]
    for number in range(config.rounds + 1):
        found = yield from _judged(judge, prompts, options, config)
        for at, row in enumerate(found):
            best[at] = max([best[at], *row], key=lambda one: one[0])
        options = [
            _proposals(sentence, prompt, number, language, config)
            for prompt, (_, sentence) in zip(prompts, best, strict=True)
        ]
    return [sentence for _, sentence in best]


def _judged(
    judge: Judge,
    prompts: Sequence[str],
    options: Sequence[Sequence[Sentence]],
    config: EvaluateConfig,
) -> Generator[Step, None, list[list[tuple[float, Sentence]]]]:
    each = [prompt for prompt, row in zip(prompts, options, strict=True) for _ in row]
    said = [sentence_text(one) for row in options for one in row]
    pairs = pairs_for("search", config.search_seeds, each, said, config)
    scores: Iterator[float] = iter((yield from judge(pairs)))
    return [[(next(scores), one) for one in row] for row in options]


def _proposals(
    sentence: Sentence, prompt: str, number: int, language: Automaton, config: EvaluateConfig
) -> list[Sentence]:
    """Changes of a sentence, drawn at random: one choice each, or two once in a while."""
    rng = random.Random(seed_of(config.seed, "search", number, prompt))
    found: dict[Sentence, None] = {}
    for _ in range(config.tries):
        one = changes(sentence, language, rng)
        found[changes(one, language, rng) if rng.random() < 0.3 else one] = None
    found.pop(sentence, None)
    return list(found)
