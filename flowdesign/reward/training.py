"""How one member of the ensemble learns: its bootstrap sample, its batches and its loss.

Every step's data and what its dropout leaves out depend on the seed, the member and the step's number
alone, and nothing else is random once the weights have started; so members may learn side by side and
a resumed run repeats no step and skips none.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowdesign.config import RewardConfig
from flowdesign.descent import descend, set_rates
from flowdesign.rates import rate
from flowdesign.reward.data import Ballots, Rows, Table, pairs_of
from flowdesign.reward.network import Output, RewardModel
from flowdesign.reward.readers import Prompts
from flowdesign.sampling import padded

CHUNKS = 3  # parts of a batch, by length of the sentences, so that little is padding
SMALLEST_GAP = 1e-5  # between scores that have an order
PROMISING = 0.2  # share of the prompts that `RewardConfig.promising` chooses from
RAW_WEIGHT = 0.25  # of a raw scorer in the loss, beside 1 for the combined score


@dataclass(frozen=True)
class Lessons:
    """The distinct (prompt, sentence) pairs of a table's rows, and what their images scored.

    `prompt` and `sentence` (pairs,) point into the table's lists. `count`, `total` and `squares`
    (pairs, heads) are number, sum and sum of squares of the scores: all that a normal likelihood
    asks of them, so a pair is read once however many seeds it was rendered with.
    """

    prompt: Rows
    sentence: Rows
    count: Tensor
    total: Tensor
    squares: Tensor
    sentences: tuple[tuple[int, ...], ...]
    prompts: tuple[str, ...]
    ballots: Ballots

    def __len__(self) -> int:
        return len(self.prompt)

    @staticmethod
    def of(table: Table, rows: Rows, device: str = "cpu") -> Lessons:
        """Gather the rows of a table."""
        chosen = table.take(rows)
        pairs, members = pairs_of(chosen)
        scores = np.stack([chosen.scores[name] for name in table.heads], 1)
        known = np.isfinite(scores)
        values = np.where(known, scores, 0.0)
        count, total, squares = (_sums(v, members, device) for v in (known, values, values**2))
        return Lessons(
            pairs[:, 0], pairs[:, 1], count, total, squares, table.sentences, table.prompts,
            table.teaching,
        )  # fmt: skip


def _sums(values: NDArray[np.generic], members: Sequence[Rows], device: str) -> Tensor:
    found = np.stack([values[rows].astype(np.float64).sum(0) for rows in members])
    return torch.tensor(found, dtype=torch.float32, device=device)


def bootstrap(config: RewardConfig, lessons: Lessons, member: int) -> NDArray[np.int64]:
    """How often each pair is in the member's sample: Poisson(`sample`), as drawing with replacement
    gives (Oza and Russell 2001), by pair or by prompt."""
    rng = np.random.default_rng([config.seed, member, 1])
    if config.bootstrap == "none":
        return np.ones(len(lessons), np.int64)
    if config.bootstrap == "prompts":
        return _some(rng.poisson(config.sample, len(lessons.prompts))[lessons.prompt])
    return _some(rng.poisson(config.sample, len(lessons)))


def _some(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The counts, or one of each where chance has left out everything."""
    return counts if counts.any() else np.ones_like(counts)


class Trainee:
    """A member that learns: model, optimiser and sample.

    What is judged and kept is `average`, the running mean of its weights over the last steps (Polyak
    and Juditsky 1992): single steps are noisy, and members that learn from few pairs much so.
    """

    def __init__(
        self, config: RewardConfig, member: int, model: RewardModel, lessons: Lessons
    ) -> None:
        self.config, self.member, self.model, self.lessons = config, member, model, lessons
        self.weights = bootstrap(config, lessons, member)
        self.optimiser = _optimiser(model, config)
        self.average = {name: weight.detach().clone() for name, weight in model.learned().items()}
        votes = np.random.default_rng([config.seed, member, 3]).poisson(
            config.sample, len(lessons.ballots)
        )
        self._votes = np.repeat(np.arange(len(votes)), _some(votes)).tolist()
        self._of_prompt: dict[int, list[int]] = {}
        for pair in np.flatnonzero(self.weights).tolist():
            self._of_prompt.setdefault(int(lessons.prompt[pair]), []).append(pair)
        self._promising = self._best_prompts()

    def _best_prompts(self) -> list[int]:
        """The prompts whose workflows score best on average. They have what a policy says, where that was rendered
        too; random workflows are mostly poor, and what makes a good one better drowns in them."""
        scores = (self.lessons.total[:, 0] / self.lessons.count[:, 0]).cpu().numpy()
        means = {prompt: scores[pairs].mean() for prompt, pairs in self._of_prompt.items()}
        best = sorted(means, key=lambda prompt: (-means[prompt], prompt))
        return sorted(best[: math.ceil(PROMISING * len(best))])

    def batch(self, index: int) -> list[int]:
        """The pairs of step `index`: some workflows of some prompts, and of some of the most promising."""
        rng = random.Random(f"reward/{self.config.seed}/{self.member}/{index}")
        prompts = sorted(self._of_prompt)
        chosen = rng.sample(prompts, min(self.config.prompts, len(prompts)))
        chosen += rng.sample(self._promising, min(self.config.promising, len(self._promising)))
        found = []
        for prompt in dict.fromkeys(chosen):
            pairs = self._of_prompt[prompt]
            found += rng.sample(pairs, min(self.config.workflows, len(pairs)))
        return found

    def step(self, index: int) -> dict[str, float]:
        """One update. Metrics: loss and order (see `likelihood` and `disorder`), votes where there are
        any, and grad_norm.

        Raises NotANumber before the weights are touched.
        """
        set_rates(self.optimiser, rate(self.config, index))
        self.optimiser.zero_grad()
        self.model.leave_out(self._chance(index))
        found = self._learn_scores(self.batch(index))
        if len(self.lessons.ballots) and self.config.vote_weight:
            found["votes"] = self._learn_votes(index)
        self.model.leave_out(None)
        whose = f"member {self.member} at step {index}"
        learned = self.model.learned().values()
        descend(self.optimiser, learned, found, whose, "a lower --rate")
        self._take_in(index)
        return found

    @torch.no_grad()
    def _take_in(self, index: int) -> None:
        """Move the average towards the weights; the first steps move it more, as in a plain mean."""
        share = max(1 - self.config.averaging, 1 / (index + 1))
        for name, weight in self.model.learned().items():
            self.average[name].lerp_(weight, share)

    @contextmanager
    def averaged(self) -> Iterator[RewardModel]:
        """The model with its averaged weights, for a while."""
        learned = self.model.learned()
        now = {name: weight.detach().clone() for name, weight in learned.items()}
        set_weights(learned, self.average)
        try:
            yield self.model
        finally:
            set_weights(learned, now)

    def _chance(self, index: int) -> torch.Generator:
        """What decides on chance within step `index`."""
        rng = np.random.default_rng([self.config.seed, self.member, 2, index])
        generator = torch.Generator(self.config.device)
        return generator.manual_seed(int(rng.integers(2**63)))

    def _learn_scores(self, batch: Sequence[int]) -> dict[str, float]:
        """Accumulate the gradient of the scores' losses."""
        lessons = self.lessons
        lengths = [len(lessons.sentences[lessons.sentence[pair]]) for pair in batch]
        pairs = np.array(batch)[np.argsort(lengths, kind="stable")]
        which, names = _numbered(lessons.prompt[pairs])
        prompts = self._read(names)
        parts = np.array_split(np.arange(len(pairs)), min(CHUNKS, len(pairs)))
        said = [self._predict(prompts, which[at], lessons.sentence[pairs[at]]) for at in parts]
        output = Output(torch.cat([o.mean for o in said]), torch.cat([o.noise for o in said]))
        weights = torch.tensor(self.weights[pairs], dtype=torch.float32, device=self.config.device)
        images = (weights * lessons.count[pairs, 0]).sum()
        loss = likelihood(output, lessons, pairs, weights, self.config.beta) / images
        order = disorder(output, lessons, pairs, weights)
        (loss + self.config.order_weight * order).backward()
        return {"loss": float(loss.detach()), "order": float(order.detach())}

    def _learn_votes(self, index: int) -> float:
        """Accumulate the gradient of the votes' loss."""
        votes = self.lessons.ballots
        rng = random.Random(f"reward/votes/{self.config.seed}/{self.member}/{index}")
        chosen = rng.choices(self._votes, k=self.config.votes)
        which, names = _numbered(votes.prompt[chosen])
        prompts = self._read(names)
        better = self._predict(prompts, which, votes.left[chosen]).mean[:, 0]
        worse = self._predict(prompts, which, votes.right[chosen]).mean[:, 0]
        tie = torch.tensor(votes.tie[chosen], device=self.config.device)
        loss = disagreement(better, worse, tie, self.model.sharpness, self.model.tie)
        (self.config.vote_weight * loss).backward()
        return float(loss.detach())

    def _read(self, numbers: Rows) -> Prompts:
        with _precision(self.config):
            return self.model.read_prompts([self.lessons.prompts[n] for n in numbers])

    def _predict(self, prompts: Prompts, which: Rows, sentences: Rows) -> Output:
        ids = padded([self.lessons.sentences[n] for n in sentences], self.config.device)
        places = torch.tensor(which, device=self.config.device)
        with _precision(self.config):
            output: Output = self.model(prompts, places, ids)
        return output


def likelihood(
    output: Output, lessons: Lessons, pairs: Rows, weights: Tensor, beta: float
) -> Tensor:
    """The loss of pairs, summed: their images' negative log-likelihood under normal distributions.

    Each head's is multiplied by its variance to the power `beta`, taken as a constant (beta-NLL,
    Seitzer et al. 2022, arXiv 2203.09168), so that what is hard to predict is not given up. Constants
    are left out.
    """
    count, total, squares = (t[pairs] for t in (lessons.count, lessons.total, lessons.squares))
    variance = output.noise**2
    misses = squares - 2 * output.mean * total + count * output.mean**2
    nll = 0.5 * (misses / variance + count * variance.log()) * variance.detach() ** beta
    heads = torch.full((nll.shape[1],), RAW_WEIGHT, device=nll.device)
    heads[0] = 1.0
    summed: Tensor = (weights[:, None] * heads * nll).sum()
    return summed


def disorder(output: Output, lessons: Lessons, pairs: Rows, weights: Tensor) -> Tensor:
    """The mean negative log-likelihood, in nats, of the order in which workflows of one prompt scored.

    P(a scores more than b) = Phi((mean_a - mean_b) / sqrt(noise_a^2 / n_a + noise_b^2 / n_b)), as in
    Thurstone (1927, Psychological Review 34), for the combined scores of n images each. The noise is taken
    as a constant. A squared error is all but blind to the order of workflows that score nearly the same;
    this is not. 0 where no prompt has two workflows with different scores.
    """
    count = lessons.count[pairs, 0]
    scores = lessons.total[pairs, 0] / count
    prompts = torch.as_tensor(lessons.prompt[pairs], device=scores.device)
    ordered = (prompts[:, None] == prompts) & (scores[:, None] > scores + SMALLEST_GAP)
    better, worse = torch.nonzero(ordered).unbind(1)
    mean, variance = output.mean[:, 0], output.noise[:, 0].detach() ** 2 / count
    apart = (mean[better] - mean[worse]) / (variance[better] + variance[worse]).sqrt()
    weight = weights[better] * weights[worse]
    return -(weight * torch.special.log_ndtr(apart)).sum() / weight.sum().clamp(min=1.0)


def disagreement(
    better: Tensor, worse: Tensor, tie: Tensor, sharpness: Tensor, ties: Tensor
) -> Tensor:
    """The mean negative log-likelihood of votes (votes,) in nats, after Davidson (1970, JASA 65).

    With strengths p = exp(sharpness * score): P(better wins) = p / (p + q + v sqrt(p q)), P(tie) =
    v sqrt(p q) / (the same); `sharpness` and `ties` (v) are given as logarithms.
    """
    half = 0.5 * sharpness.exp() * (better - worse)
    everything = torch.logsumexp(torch.stack([half, -half, ties.expand_as(half)]), 0)
    return (everything - torch.where(tie, ties, half)).mean()


@torch.no_grad()
def set_weights(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give weights other values, by name."""
    for name, weight in weights.items():
        weight.copy_(values[name])


def _numbered(values: Rows) -> tuple[Rows, Rows]:
    """Values as places in the list of the distinct ones, and that list."""
    distinct, places = np.unique(values, return_inverse=True)
    return places.ravel().astype(np.int64), distinct


def _precision(config: RewardConfig) -> torch.autocast:
    device = torch.device(config.device).type
    return torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bf16")


def _optimiser(model: RewardModel, config: RewardConfig) -> torch.optim.AdamW:
    """AdamW; the encoder learns more slowly, and only matrices of weights decay."""
    groups: Mapping[tuple[bool, bool], list[Tensor]] = {
        (encoder, matrix): [] for encoder in (True, False) for matrix in (True, False)
    }
    for name, weight in model.learned().items():
        matrix = weight.ndim > 1 and not name.startswith("words.")
        groups[name.startswith("encoder."), matrix].append(weight)
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "peak": config.encoder_rate if encoder else config.rate,
                "weight_decay": config.decay if matrix else 0.0,
            }
            for (encoder, matrix), weights in groups.items()
            if weights
        ],
        betas=(0.9, 0.98),
    )
