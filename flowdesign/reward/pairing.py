"""Images gathered by (prompt, workflow): what predictions are compared with.

An image is one seed. The true score of a pair is what its images would score on average over all
seeds; the mean over the few that were rendered is an estimate of it with noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowdesign.reward.bootstrap import Values
from flowdesign.reward.data import Rows, Table, grouped

DIGITS = 9  # means that differ by less are equal: the order of a sum must not break a tie


@dataclass(frozen=True)
class Pairs:
    """Distinct pairs of a prompt and a sentence, each with the images that it was rendered to.

    prompts: (prompts,) numbers in the table's list; `prompt` (pairs,) points into these
    sentence: (pairs,) numbers in the table's list
    mean, variance, count: (pairs,) of the images' scores; variance is NaN for a single image
    rows, score, seed, pair: (images,) the table's row, its score, its seed, and the pair it belongs to
    """

    prompts: Rows
    prompt: Rows
    sentence: Rows
    mean: Values
    variance: Values
    count: Values
    rows: Rows
    score: Values
    seed: Rows
    pair: Rows

    def __len__(self) -> int:
        return len(self.prompt)

    @staticmethod
    def of(table: Table, rows: Rows) -> Pairs:
        """Gather rows of a table; an image that was rendered twice counts once.

        Raises ValueError for a score that is no number.
        """
        keys = np.stack([table.prompt[rows], table.sentence[rows], table.seed[rows]], 1)
        keys, first = np.unique(keys, axis=0, return_index=True)
        score = table.combined[rows[first]]
        if not np.isfinite(score).all():
            raise ValueError(
                f"{np.sum(~np.isfinite(score))} of {len(score)} scores are no numbers."
            )
        both, pair = np.unique(keys[:, :2], axis=0, return_inverse=True)
        prompts, prompt = np.unique(both[:, 0], return_inverse=True)
        mean, variance, count = _moments(score, pair, len(both))
        return Pairs(
            prompts, prompt.astype(np.int64), both[:, 1], mean, variance, count,
            rows[first], score, keys[:, 2], pair.astype(np.int64),
        )  # fmt: skip

    def texts(self, table: Table) -> tuple[list[str], list[tuple[int, ...]]]:
        """Prompt and sentence of every pair, as predictors take them."""
        return table.texts(np.stack([self.prompts[self.prompt], self.sentence], 1))

    def groups(self) -> list[Rows]:
        """The pairs of each prompt."""
        return grouped(self.prompt, len(self.prompts))

    def per_prompt(self, values: Values) -> Values:
        """Sums (prompts,) of one value per pair."""
        return np.bincount(self.prompt, values, len(self.prompts)).astype(np.float64)

    def per_prompt_images(self, values: Values) -> Values:
        """Sums (prompts,) of one value per image."""
        of_images = self.prompt[self.pair]
        return np.bincount(of_images, values, len(self.prompts)).astype(np.float64)

    def grids(self) -> Iterable[tuple[Rows, Values]]:
        """Of each prompt its pairs (n,) and their scores by seed (n, seeds), NaN where not rendered.

        Where pairs share seeds a column is a seed; where each has its own, columns mean nothing.
        """
        images = grouped(self.pair, len(self))
        for pairs in self.groups():
            yield pairs, self._grid([images[pair] for pair in pairs])

    def _grid(self, images: list[Rows]) -> Values:
        seeds = np.unique(self.seed[np.concatenate(images)])
        width = max(map(len, images))
        grid = np.full((len(images), width), np.nan)
        shared = len(seeds) == width  # no pair has a seed that another one lacks a place for
        for row, numbers in enumerate(images):
            columns = np.searchsorted(seeds, self.seed[numbers]) if shared else range(len(numbers))
            grid[row, columns] = self.score[numbers]
        return grid


def equal_digits(values: Values) -> Values:
    """Values without the digits that only the order of a sum decides."""
    return np.round(values, DIGITS)


def _moments(score: Values, pair: NDArray[np.intp], pairs: int) -> tuple[Values, Values, Values]:
    """Mean, unbiased variance (NaN for one image) and number of the images of each pair."""
    count = np.bincount(pair, minlength=pairs).astype(np.float64)
    mean = np.bincount(pair, score, pairs) / count
    squares = np.bincount(pair, (score - mean[pair]) ** 2, pairs)
    variance = np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan)
    return equal_digits(mean), variance, count
