"""Supervised fine-tuning as a run (flowdesign.runs): python -m flowdesign sft.

    for step in train(config, folder): ...

Every step draws prompts and, for each, random valid workflows: walks through the grammar with all
assets that the catalog knows, installed or not. There is nothing to prefer yet, so the policy
learns what can be said after what, and keeps all of it likely; which workflow suits which prompt is
learned later, from rewards. (The paper fine-tunes on workflows that scored well; a random start
keeps the diversity that reinforcement learning needs.)

A *warm* start, when asked for, draws workflows from about exp(reward / heat) instead, for a share of the
prompts: a random one is changed choice by choice in favour of what the reward ensemble expects more of
(`flowdesign.search`). That distribution is the optimum of the objective that GRPO climbs towards.

A share of the prompts may come with graphs that people made and imported (`flowdesign.sft.imported`),
and a share with recorded workflows and the level of their scores (`flowdesign.sft.scored`).

A step's data depends on the seed and the step's number alone and nothing else is random, so a
checkpoint is weights, optimiser state and a number, and a resumed run repeats no step and skips none.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from flowdesign.catalog import known_assets
from flowdesign.checkpoints import Place, optimiser_of, restore, save
from flowdesign.config import SFTConfig, Step
from flowdesign.descent import descend, set_rates
from flowdesign.device import LOADING, minding_memory
from flowdesign.elsewhere import other_prompt
from flowdesign.heldout import prompts_of
from flowdesign.policy import Anatomy, Policy, grammar_mask
from flowdesign.policy import fingerprint as policy_digest
from flowdesign.rates import rate
from flowdesign.reward.bound import Bound
from flowdesign.reward.ensemble import fingerprint as reward_digest
from flowdesign.runs import Steps, check_origin, folder_of
from flowdesign.sampling import padded
from flowdesign.scenes import random_prompt
from flowdesign.search import search
from flowdesign.sft import imported, scored
from flowdesign.sft.imported import Pool
from flowdesign.sft.looking import LOOKED_AT, judge_of, look
from flowdesign.sft.scored import Scored
from flowdesign.tokens import Automaton, random_sentence

MEMORY = (  # what to lower where it does not suffice
    "--at-once (1 takes the least) and the run goes on, or start another (--run NAME) with lower --prompts or "
    "--sentences"
)
GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread most evenly between whole numbers
SCENE_SHARE = 0.7  # of the prompts; the rest is of the world outside the miniature


@dataclass(frozen=True)
class Batch:
    """One step's data: a prompt for each sentence, the sentences, and the mean reward of those that
    were searched for, where there are any."""

    prompts: list[str]
    sentences: list[tuple[int, ...]]
    reward: float | None = None

    def parts(self, at_once: int) -> Iterator[tuple[list[str], list[tuple[int, ...]]]]:
        """Prompts and sentences of so many prompts at a time, of all for 0."""
        names = list(dict.fromkeys(self.prompts))
        size = at_once or len(names)
        for first in range(0, len(names), size):
            some = set(names[first : first + size])
            places = [place for place, prompt in enumerate(self.prompts) if prompt in some]
            yield [self.prompts[place] for place in places], [self.sentences[p] for p in places]


@dataclass(frozen=True)
class Made:
    """Pairs to learn from that were there before: of imported graphs, and of scored workflows."""

    imported: Pool = field(default_factory=dict)
    scored: Sequence[Scored] = ()

    def drawn(
        self, imports: int, scores: int, most: int, rng: random.Random
    ) -> list[tuple[str, tuple[int, ...]]]:
        """For so many prompts up to `most` sentences each."""
        found = imported.drawn(self.imported, imports, most, rng) if imports else []
        return found + (scored.drawn(self.scored, scores * most, rng) if scores else [])


def train(config: SFTConfig, folder: Path) -> Steps:
    """Train a policy in the run's folder, from its newest checkpoint on; yield every step.

    Metrics: loss and lawless (nats a token, see `losses`), grad_norm, with a warm start the mean
    `reward` of what was searched for, and now and then validation/reward (see `look`). Raises
    policy.PolicyError, reward.ensemble.RewardError, tokens.VocabularyMismatch, runs.NotANumber,
    runs.RunConflict, records.RecordsError.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    with minding_memory(LOADING):
        policy = _start(config)
        judge = judge_of(config)
    policy.hold_below(config.layers)
    bound = judge if config.warm else None
    check_origin(folder, _origin(config))
    made = _made(config, folder, policy.automaton)
    prompts = prompts_of(config.prompt_source).held_out("validation", LOOKED_AT, 0)
    optimiser = optimiser_of(policy, config.lora_rate, config.rows_rate)
    for index in range(restore(folder, policy, optimiser).done, config.steps):
        with minding_memory(MEMORY):
            data = batch(config, index, policy.automaton, bound, made)
            metrics = update(policy, optimiser, config, index, data)
            if (index + 1) % config.evaluate_every == 0 or index + 1 == config.steps:
                metrics |= look(policy, judge, prompts, folder, index)
        try:
            yield Step(index, config.steps, metrics)
        except GeneratorExit:
            save(folder, policy, optimiser, Place(index + 1))
            raise
        if (index + 1) % config.save_every == 0 or index + 1 == config.steps:
            save(folder, policy, optimiser, Place(index + 1))


def batch(
    config: SFTConfig,
    index: int,
    language: Automaton,
    bound: Bound | None = None,
    made: Made | None = None,
) -> Batch:
    """The data of step `index`; `bound` is what is searched under, where a share is `warm`, and `made`
    what people made or was scored, where shares are `imported` and `scored`."""
    made = made or Made()
    rng = random.Random(f"sft/{config.seed}/{index}")
    warm, imports, scores = _shared(
        config.prompts, (config.warm, config.imported, config.scored), index
    )
    source = prompts_of(config.prompt_source)
    rest = config.prompts - warm - imports - scores
    drawn = any_prompt if source.from_grammar else lambda rng: source.to_learn_from(rng, 1)[0]
    prompts = [drawn(rng) for _ in range(rest)]
    repeated = _repeat(prompts, config.sentences)
    plain = [random_sentence(language, rng) for _ in repeated]
    for prompt, said in made.drawn(imports, scores, config.sentences, rng):
        repeated.append(prompt)
        plain.append(said)
    if bound is None:
        return Batch(repeated, plain)
    sought = _repeat(source.to_learn_from(rng, warm, config.variants), config.sentences)
    starts = [random_sentence(language, rng) for _ in sought]
    chance = rng.getrandbits(32)
    some = bound.afresh().of_some(config.judges, rng)
    found = search(some, sought, starts, language, config.sweeps, config.heat, chance)
    sentences = [one.sentence for one in found]
    reward = fmean(bound(sought, sentences)) if sentences else None
    return Batch(repeated + sought, plain + sentences, reward)


def _shared(prompts: int, shares: Sequence[float], index: int) -> list[int]:
    """How many of a step's prompts each share gets: over the steps as much as it says, however few there
    are in a step, and together never more than there are."""
    offset = index * GOLDEN % 1  # spread evenly, so that what is less than a prompt adds up
    ends = [math.floor(prompts * sum(shares[:at]) + offset + 1e-9) for at in range(len(shares) + 1)]
    return [end - begin for begin, end in pairwise(ends)]


def _made(config: SFTConfig, folder: Path, language: Automaton) -> Made:
    """What the config's shares ask for. Raises RecordsError."""
    where = folder, config.records, language
    return Made(
        imported.pool_of(*where) if config.imported else {},
        scored.scored_of(*where, config.reward) if config.scored else (),
    )


def _repeat(prompts: Sequence[str], times: int) -> list[str]:
    return [prompt for prompt in prompts for _ in range(times)]


def any_prompt(rng: random.Random, split: str = "train") -> str:
    """A prompt of the miniature world, now and then of the world outside it."""
    if rng.random() < SCENE_SHARE:
        return random_prompt(rng, split=split)
    return other_prompt(rng)


def _start(config: SFTConfig) -> Policy:
    """A new policy, or the one to go on from."""
    if config.start:
        return Policy.load(folder_of(config.start), config.dtype, config.device, known_assets())
    anatomy = Anatomy(config.base, config.rank)
    return Policy.create(anatomy, config.dtype, config.device, models=known_assets())


def _origin(config: SFTConfig) -> dict[str, str]:
    """Digests of what the weights follow from beside the config."""
    start = {"start": policy_digest(folder_of(config.start))} if config.start else {}
    start |= prompts_of(config.prompt_source).digests
    return start | ({"reward": reward_digest(folder_of(config.reward))} if config.warm else {})


def update(
    policy: Policy,
    optimiser: torch.optim.AdamW,
    config: SFTConfig,
    index: int,
    data: Batch,
) -> dict[str, float]:
    """One optimiser step on the data of step `index`: each token weighs the same, however much of them is in
    memory at once."""
    optimiser.zero_grad()
    told = {"loss": 0.0, "lawless": 0.0}
    total = sum(map(len, data.sentences))
    for prompts, sentences in data.parts(config.at_once):
        share = sum(map(len, sentences)) / total
        loss, lawless = losses(policy.logits(prompts, sentences), sentences, policy.automaton)
        (share * (loss + config.grammar_weight * lawless)).backward()
        told["loss"] += share * loss.item()
        told["lawless"] += share * lawless.item()
    set_rates(optimiser, rate(config, index))
    if data.reward is not None:
        told["reward"] = data.reward
    weights = policy.trainable().values()
    descend(optimiser, weights, told, "the policy", "lower rates (--lora-rate, --rows-rate)")
    return told


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
