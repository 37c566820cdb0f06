"""GRPO as a run (flowdesign.runs): python -m flowdesign grpo.

    for step in train(config, folder): ...

Each step the policy says workflows for some prompts, the reward ensemble judges them, and the policy
learns to say those that are better than their group. A step's prompts and samples follow from the seed
and its number, and nothing else is random, so a run that goes on repeats no step and skips none.

The known failure is to find the one workflow that the ensemble likes best whatever the prompt; so every
step says how much of the reward depends on the prompt, and each look compares with that workflow.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from flowdesign import checkpoints
from flowdesign.catalog import known_assets
from flowdesign.checkpoints import Place, optimiser_of
from flowdesign.config import GRPOConfig, Step
from flowdesign.device import LOADING, minding_memory
from flowdesign.grpo.learning import Learner, parts_of
from flowdesign.grpo.measuring import write_measured
from flowdesign.grpo.objective import SMALLEST_SPREAD, advantages, contrasted
from flowdesign.grpo.rollout import Earned, earn
from flowdesign.grpo.yardsticks import FOILS, Yardsticks, yardsticks
from flowdesign.heldout import prompts_of
from flowdesign.policy import Policy
from flowdesign.policy import fingerprint as policy_digest
from flowdesign.rates import rate
from flowdesign.reward.bound import Bound, open_bound
from flowdesign.reward.ensemble import fingerprint as reward_digest
from flowdesign.runs import Steps, check_origin, folder_of, replace_text
from flowdesign.samples import Shown, keep_samples
from flowdesign.sampling import roll
from flowdesign.search import Sentence
from flowdesign.tokens import sentence_text

log = logging.getLogger(__name__)
YARDSTICKS = "yardsticks.json"
VALIDATION, EACH = 32, 4  # prompts of a look, and samples for each
SHOWN = 6  # samples of a look that are kept
WINDOW = 64  # samples among which distinct workflows are counted
ENTROPY = "entropy_weight"


def train(config: GRPOConfig, folder: Path) -> Steps:
    """Improve the policy in the run's folder, from its newest checkpoint on; yield every step.

    Raises policy.PolicyError, reward.ensemble.RewardError, tokens.VocabularyMismatch, runs.NotANumber,
    and runs.RunConflict where the SFT policy or the ensemble has changed since the run began.
    """
    torch.set_num_threads(config.threads)
    with minding_memory(LOADING):
        bound, sft = bound_of(config), sft_of(config)
    start, reward = folder_of(config.start), folder_of(config.reward)
    source = prompts_of(config.prompt_source)
    made_from = {"start": policy_digest(start), "reward": reward_digest(reward)}
    check_origin(folder, made_from | source.digests)
    learner = learner_of(config, sft)
    policy = learner.policy
    prompts = source.held_out("validation", VALIDATION, config.seed)
    known = _measured(folder, bound, sft, prompts, config.seed)
    there = checkpoints.restore(folder, policy, learner.optimiser)
    learner.entropy = there.numbers.get(ENTROPY, learner.entropy)

    def keep(done: int) -> None:
        numbers = {ENTROPY: learner.entropy}
        place = Place(done, done * config.updates, numbers)
        checkpoints.save(folder, policy, learner.optimiser, place)

    for index in range(there.done, config.steps):
        with minding_memory(
            "--at-once and the run goes on, or start another (--run NAME) with lower --prompts or --group"
        ):
            metrics = step(learner, bound.afresh(), index, known)
            if (index + 1) % config.evaluate_every == 0 or index + 1 == config.steps:
                metrics |= look(bound.afresh(), policy, prompts, known, folder, index)
        try:
            yield Step(index, config.steps, metrics)
        except GeneratorExit:
            keep(index + 1)
            raise
        if (index + 1) % config.save_every == 0 or index + 1 == config.steps:
            keep(index + 1)
    log.info("all steps are done; measuring the policy on %d test prompts", config.judged)
    write_measured(policy, sft, bound, folder, config.judged, source)


def bound_of(config: GRPOConfig) -> Bound:
    """The reward that a config names. Raises what `reward.ensemble.Ensemble.load` does."""
    bound = open_bound(config.reward, config.trust, config.device, config.threads)
    return bound.of_first(config.members)


def sft_of(config: GRPOConfig) -> Policy:
    """The policy that a config starts from. Raises what `policy.Policy.load` does."""
    return Policy.load(folder_of(config.start), config.dtype, config.device, known_assets())


def learner_of(config: GRPOConfig, sft: Policy) -> Learner:
    """What improves a twin of the SFT policy."""
    policy = sft.twin()
    policy.hold_below(config.layers)
    optimiser = optimiser_of(policy, config.lora_rate, config.rows_rate)
    return Learner(config, policy, sft, optimiser)


def step(learner: Learner, bound: Bound, index: int, known: Yardsticks) -> dict[str, float]:
    """One rollout and the updates from it; also what the best fixed workflow earns for its prompts."""
    config = learner.config
    rng = random.Random(f"grpo/{config.seed}/{index}")
    source = prompts_of(config.prompt_source)
    prompts = source.to_learn_from(rng, config.prompts, config.variants)
    groups = roll(learner.policy, prompts, config.group, rng.getrandbits(62), config.temperature)
    earned = earn(bound, prompts, groups, config.foils)
    gains = advantages(contrasted(earned.own, earned.elsewhere, config.contrast), config.scaled)
    parts = list(parts_of(learner.policy, prompts, groups, gains, config.at_once))
    told = learner.learn(parts, rate(config, index))
    fixed = fmean(bound(prompts, [known.sentence] * len(prompts)))
    return told | describe(earned, groups, known) | {"fixed": fixed, ENTROPY: learner.entropy}


def describe(
    earned: Earned, groups: Sequence[Sequence[Sentence]], known: Yardsticks
) -> dict[str, float]:
    """What a rollout was like: `reward` is the mean lower bound and `mean` what it bounds,
    `prompt_gain` how much more it is than for other prompts, `prompt_share` how much of what was gained
    over the SFT policy depends on the prompt, `flat_groups` the share of groups in which no workflow is
    better than another, `distinct` the workflows among WINDOW samples, in proportion where there are fewer."""
    said = [sentence for group in groups for sentence in group][:WINDOW]
    flat = earned.own.std(1, correction=0) <= SMALLEST_SPREAD
    reward = _mean(earned.own)
    return {
        "reward": reward,
        "mean": _mean(earned.mean),
        "flat_groups": _mean(flat.float()),
        "distinct": len(set(said)) * WINDOW / len(said),
        "prompt_gain": earned.gain,
        "prompt_share": known.share(reward, earned.gain),
    }


def look(
    bound: Bound,
    policy: Policy,
    prompts: Sequence[str],
    known: Yardsticks,
    folder: Path,
    index: int,
) -> dict[str, float]:
    """Bound the policy on prompts it does not learn from, and keep some of what it says.

    `validation/reached` is how far it is from the best fixed workflow (0) to each prompt's best (1).
    """
    groups = roll(policy, prompts, EACH, seed=0)
    earned = earn(bound, prompts, groups, FOILS)
    firsts = zip(prompts[:SHOWN], groups, earned.own[:, 0].tolist(), strict=False)
    shown = [Shown(index, prompt, sentence_text(said[0]), own) for prompt, said, own in firsts]
    keep_samples(folder, index, shown)
    found = describe(earned, groups, known)
    told = {
        f"validation/{n}": found[n] for n in ("reward", "distinct", "prompt_gain", "prompt_share")
    }
    reached = known.reached(found["reward"])
    return told | {"validation/fixed": known.fixed, "validation/reached": reached}


def _measured(
    folder: Path, bound: Bound, sft: Policy, prompts: Sequence[str], seed: int
) -> Yardsticks:
    """The yardsticks of a run, measured when it starts."""
    path = folder / YARDSTICKS
    if path.exists():
        stored = json.loads(path.read_text("utf-8"))
        return Yardsticks(**stored | {"sentence": tuple(stored["sentence"])})
    log.info("measuring what the policy is compared with, on %d prompts", len(prompts))
    found = yardsticks(bound.afresh(), sft, prompts, seed)
    replace_text(path, json.dumps(asdict(found), indent=2) + "\n")
    return found


def _mean(values: Tensor) -> float:
    return float(values.mean())
