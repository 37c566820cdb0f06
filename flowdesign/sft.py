"""Supervised fine-tuning: the policy learns the vocabulary of workflows (paper, phase 1).

`train` does it, `measure` says how well the result speaks.

Every step draws prompts and, for each, random valid workflows: walks through the grammar with all
assets that the catalog knows, installed or not. There is nothing to prefer yet, so the policy
learns what can be said after what, and keeps all of it likely; which workflow suits which prompt is
learned later, from rewards. (The paper fine-tunes on workflows that scored well; a random start
keeps the diversity that reinforcement learning needs.)

A step's data depends on the seed and the step's number alone and nothing else is random, so a
checkpoint is weights, optimiser state and a number, and a resumed run repeats no step and skips none.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowdesign.catalog import known_assets
from flowdesign.checkpoints import Place, optimiser_of, restore, save
from flowdesign.config import SFTConfig, Step
from flowdesign.elsewhere import other_prompt
from flowdesign.policy import Anatomy, Policy, fingerprint, grammar_mask
from flowdesign.rates import rate
from flowdesign.runs import Steps, measured_now, read_status
from flowdesign.sampling import padded
from flowdesign.scenes import random_prompt
from flowdesign.tokens import Automaton, random_sentence

UNDER_GRAMMAR, FREE = 2000, 500  # how many sentences are measured
FOR_ONE_PROMPT = 25  # sentences
SCENE_SHARE = 0.7  # of the prompts; the rest is of the world outside the miniature


@dataclass(frozen=True)
class Batch:
    """One step's data: a prompt for each sentence, and the sentences."""

    prompts: list[str]
    sentences: list[tuple[int, ...]]


def train(config: SFTConfig, folder: Path) -> Steps:
    """Train a policy in the run's folder, from its newest checkpoint on; yield every step.

    Metrics: loss and lawless (nats a token, see `losses`) and grad_norm.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    anatomy = Anatomy(config.base, config.rank)
    policy = Policy.create(anatomy, config.dtype, config.device, models=known_assets())
    optimiser = optimiser_of(policy, config.lora_rate, config.rows_rate)
    language = policy.automaton
    for index in range(restore(folder, policy, optimiser).done, config.steps):
        metrics = _update(policy, optimiser, config, index, language)
        try:
            yield Step(index, config.steps, metrics)
        except GeneratorExit:
            save(folder, policy, optimiser, Place(index + 1))
            raise
        if (index + 1) % config.save_every == 0 or index + 1 == config.steps:
            save(folder, policy, optimiser, Place(index + 1))


def batch(config: SFTConfig, index: int, language: Automaton) -> Batch:
    """The data of step `index`."""
    rng = random.Random(f"sft/{config.seed}/{index}")
    prompts = [_prompt(rng) for _ in range(config.prompts)]
    repeated = [prompt for prompt in prompts for _ in range(config.sentences)]
    return Batch(repeated, [random_sentence(language, rng) for _ in repeated])


def measure(folder: Path, threads: int = 1) -> dict[str, Any]:
    """Figures of the policy in `folder`: how many of its sentences are workflows, and differ.

    `grammar` is sampled under the automaton, `free` without it. The figures belong to the weights
    whose `fingerprint` they carry.
    """
    torch.set_num_threads(threads)
    policy = Policy.load(folder, models=known_assets())
    status = read_status(folder)
    return {
        "grammar": validity(policy, UNDER_GRAMMAR, constrained=True),
        "free": validity(policy, FREE, constrained=False),
        "weights": fingerprint(folder),
        "step": status.step if status else 0,
        **measured_now(torch=torch.__version__),
    }


def validity(policy: Policy, samples: int, constrained: bool, seed: int = 0) -> dict[str, int]:
    """Draw sentences for held-out prompts at temperature 1: {"samples", "valid", "distinct"}.

    Every prompt has a seed of its own: a policy that prefers nothing yet says the same for the same
    seed, whatever the prompt.
    """
    rng = random.Random(f"sft/measure/{seed}")
    drawn = []
    for first in range(0, samples, FOR_ONE_PROMPT):
        count = min(FOR_ONE_PROMPT, samples - first)
        prompt, chance = _prompt(rng, "test"), rng.getrandbits(32)
        drawn += policy.sample(prompt, count, chance, constrained=constrained)
    valid = sum(sample.valid for sample in drawn)
    return {"samples": samples, "valid": valid, "distinct": len({one.tokens for one in drawn})}


def _prompt(rng: random.Random, split: str = "train") -> str:
    if rng.random() < SCENE_SHARE:
        return random_prompt(rng, split=split)
    return other_prompt(rng)


def _update(
    policy: Policy,
    optimiser: torch.optim.AdamW,
    config: SFTConfig,
    index: int,
    language: Automaton,
) -> dict[str, float]:
    """One optimiser step on the data of step `index`."""
    data = batch(config, index, language)
    logits = policy.logits(data.prompts, data.sentences)
    loss, lawless = losses(logits, data.sentences, language)
    optimiser.zero_grad()
    (loss + config.grammar_weight * lawless).backward()
    norm = torch.nn.utils.clip_grad_norm_(list(policy.trainable().values()), 1.0)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate(config, index)
    optimiser.step()
    return {"loss": loss.item(), "lawless": lawless.item(), "grad_norm": norm.item()}


def losses(
    logits: Tensor, sentences: list[tuple[int, ...]], language: Automaton
) -> tuple[Tensor, Tensor]:
    """Two means over the tokens of sentences, in nats: of the tokens themselves, and of the grammar.

    The first is the cross-entropy of the tokens. The second is -log of the probability that all
    allowed tokens hold together. It is a part of the first, without the noise of which allowed
    token was drawn, so giving it more weight teaches the grammar from fewer sentences.
    """
    targets = padded(sentences).to(logits.device)
    there = targets >= 0
    rows = torch.log_softmax(logits[there], -1)
    mask = grammar_mask(sentences, language, logits.shape[-1]).to(logits)[there]
    chosen = rows.gather(-1, targets[there][:, None])
    return -chosen.mean(), -torch.logsumexp(rows + mask, -1).mean()
