"""What a policy's reward is measured against: the SFT policy, the best workflow that does not look at
the prompt, and the best of many for each prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from flowdesign.grpo.rollout import earn
from flowdesign.policy import Policy
from flowdesign.reward.bound import Bound
from flowdesign.sampling import roll
from flowdesign.search import Sentence, search
from flowdesign.tokens import Automaton, random_sentence

SAMPLED = 512  # workflows, of which each prompt's best counts
STARTS, SWEEPS = 4, 2  # of the search for the best fixed workflow
EACH = 4  # samples of the SFT policy for a prompt
FOILS = 4  # other prompts that each of them is judged for
SMALLEST = 1e-6  # difference of rewards that is one


@dataclass(frozen=True)
class Yardsticks:
    """Mean rewards over some prompts. `fixed` is the prompt-blind optimum, found with full knowledge of
    the ensemble; `best` the mean of each prompt's best among SAMPLED random workflows and the fixed one;
    `sft_gain` how much more the SFT policy's workflows earn than they would for other prompts."""

    sft: float
    sft_gain: float
    fixed: float
    best: float
    sentence: Sentence  # the fixed workflow

    def reached(self, reward: float) -> float:
        """How far a reward is from the fixed workflow (0) to each prompt's best (1); 0 where the fixed one
        is each prompt's best."""
        far = self.best - self.fixed
        return (reward - self.fixed) / far if far > SMALLEST else 0.0

    def share(self, reward: float, gain: float) -> float:
        """How much of what was gained over the SFT policy is earned for the right prompt only (0 to 1).

        `gain` is how much more workflows earn than for other prompts.
        """
        gained = reward - self.sft
        return min(1.0, max(0.0, (gain - self.sft_gain) / gained)) if gained > SMALLEST else 0.0


def yardsticks(bound: Bound, sft: Policy, prompts: Sequence[str], seed: int) -> Yardsticks:
    """Measure them for these prompts."""
    language = sft.automaton
    rng = random.Random(f"grpo/yardsticks/{seed}")
    pool = [random_sentence(language, rng) for _ in range(SAMPLED)]
    rewards = [bound([prompt] * len(pool), pool) for prompt in prompts]
    means = [fmean(column) for column in zip(*rewards, strict=True)]
    order = sorted(range(len(pool)), key=lambda at: -means[at])
    fixed, sentence = best_fixed(
        bound, prompts, [pool[at] for at in order[:STARTS]], language, seed
    )
    said = roll(sft, prompts, EACH, seed)
    found = earn(bound, prompts, said, FOILS)
    blind = bound(prompts, [sentence] * len(prompts))
    best = fmean(max(*row, one) for row, one in zip(rewards, blind, strict=True))
    return Yardsticks(float(found.own.mean()), found.gain, fixed, best, sentence)


def best_fixed(
    bound: Bound,
    over: Sequence[str],
    starts: Sequence[Sentence],
    language: Automaton,
    seed: int = 0,
) -> tuple[float, Sentence]:
    """The workflow with the highest mean reward over these prompts that coordinate ascent finds."""

    def blind(prompts: Sequence[str], sentences: Sequence[Sentence]) -> list[float]:
        distinct = list(dict.fromkeys(sentences))
        asked = [prompt for _ in distinct for prompt in over]
        values = bound(asked, [sentence for sentence in distinct for _ in over])
        many = len(over)
        means = {s: fmean(values[at * many : (at + 1) * many]) for at, s in enumerate(distinct)}
        return [means[sentence] for sentence in sentences]

    found = search(blind, [""] * len(starts), starts, language, sweeps=SWEEPS, seed=seed)
    top = max(found, key=lambda one: one.reward)
    return top.reward, top.sentence
