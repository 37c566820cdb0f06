"""The expensive upper bound: workflows that are searched for by rendering and judging, prompt by prompt.

As ComfyGI does (arXiv 2411.14193): change the best workflow so far, render, keep what scores better. It starts
from all that the other contestants chose for the prompt. Of many workflows that are judged by few images the best one
is lucky as well, which would make the bound too low: so the last word is had by new images of the best few. What
is chosen is measured with other seeds again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

from flowdesign.collect.plan import Pair
from flowdesign.config import EvaluateConfig, Step
from flowdesign.evaluate.setting import Sentence, pairs_for, seed_of
from flowdesign.search import changes
from flowdesign.tokens import Automaton, sentence_text

FINALISTS = 4  # workflows of a prompt that are judged once more

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
    known: list[dict[Sentence, float]] = [{} for _ in prompts]
    options = [list(dict.fromkeys(row)) for row in starts]
    for number in range(config.rounds + 1):
        found = yield from _judged(judge, prompts, options, "search", config.search_seeds, config)
        for scores, row in zip(known, found, strict=True):
            scores.update(row)
        options = [
            _proposals(_best(scores, 1)[0], prompt, number, language, config)
            for prompt, scores in zip(prompts, known, strict=True)
        ]
    finalists = [_best(scores, FINALISTS) for scores in known]
    last = yield from _judged(judge, prompts, finalists, "search again", config.seeds, config)
    return [_best(scores, 1)[0] for scores in last]


def _judged(
    judge: Judge,
    prompts: Sequence[str],
    options: Sequence[Sequence[Sentence]],
    purpose: str,
    count: int,
    config: EvaluateConfig,
) -> Generator[Step, None, list[dict[Sentence, float]]]:
    """The scores of each prompt's options, by `count` images whose seeds serve this purpose only."""
    each = [prompt for prompt, row in zip(prompts, options, strict=True) for _ in row]
    said = [sentence_text(one) for row in options for one in row]
    pairs = pairs_for(purpose, count, each, said, config)
    scores: Iterator[float] = iter((yield from judge(pairs)))
    return [{one: next(scores) for one in row} for row in options]


def _best(scores: Mapping[Sentence, float], count: int) -> list[Sentence]:
    """Those that score highest; of equal ones those that were known first."""
    return sorted(scores, key=lambda one: -scores[one])[:count]


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
