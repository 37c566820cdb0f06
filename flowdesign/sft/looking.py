"""What a policy says now and then while SFT teaches it, and what a reward ensemble expects of that.

There is no held-out loss: no step's data come twice, so the loss of a step is one already.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from flowdesign.config import SFTConfig
from flowdesign.lm import WeightsNotFound
from flowdesign.policy import Policy
from flowdesign.reward.bound import Bound, open_bound
from flowdesign.reward.ensemble import RewardError
from flowdesign.samples import Shown, keep_samples
from flowdesign.sampling import roll
from flowdesign.tokens import VocabularyMismatch, sentence_text

log = logging.getLogger(__name__)
LOOKED_AT, SHOWN = 16, 6  # prompts of a look, and those of which the samples are kept


def judge_of(config: SFTConfig) -> Bound | None:
    """The ensemble that looks are judged with, if there is one.

    Raises reward.ensemble.RewardError, tokens.VocabularyMismatch where a warm start needs it.
    """
    try:
        return open_bound(config.reward, config.trust, config.device, config.threads)
    except (RewardError, VocabularyMismatch, WeightsNotFound) as fault:
        if config.warm:
            raise
        log.warning("What the policy says is shown without an expected score: %s", fault)
        return None


def look(
    policy: Policy, judge: Bound | None, prompts: Sequence[str], folder: Path, index: int
) -> dict[str, float]:
    """Keep some of what the policy says for validation prompts; its mean reward where there is a judge."""
    said = [sentences[0] for sentences in roll(policy, prompts, 1, seed=0)]
    rewards: Sequence[float | None] = (
        judge.afresh()(prompts, said) if judge else [None] * len(prompts)
    )
    rows = list(zip(prompts, said, rewards, strict=True))[:SHOWN]
    shown = [Shown(index, prompt, sentence_text(one), own) for prompt, one, own in rows]
    keep_samples(folder, index, shown)
    known = [reward for reward in rewards if reward is not None]
    return {"validation/reward": fmean(known)} if known else {}
