"""Those who are compared: each gives a sentence for a prompt. CONTESTANTS is the one place to add another.

Each row says from an evaluation's setting which contestants of its kind there are: a policy that was
trained with three seeds is three of them, at five guidance scales fifteen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from flowdesign.catalog import suggest
from flowdesign.config import ConfigError, EvaluateConfig, listed
from flowdesign.evaluate import baselines
from flowdesign.evaluate.setting import Sentence, Setting, Tabulated, seed_of
from flowdesign.sampling import Speaker, roll
from flowdesign.sft.scored import BEST, told, was_told
from flowdesign.tokens import random_sentence

Choose = Callable[[Setting, Sequence[str], int], list[Sentence]]  # prompts, seed


@dataclass(frozen=True)
class Contestant:
    """A way to a workflow for a prompt. Those of one `name` differ in their `run`, the training seed.

    `scale` is its guidance scale where it has one. It is measured on all prompts or, `briefly`, on the
    first few.
    """

    name: str
    about: str
    choose: Choose
    run: str = ""
    scale: float | None = None
    briefly: bool = False

    @property
    def key(self) -> str:
        """What tells it from all others; a file's name."""
        return f"{self.name} {self.run}".strip().replace("/", "_")


def contestants(setting: Setting) -> list[Contestant]:
    """Those of the kinds that the config asks for. Raises ConfigError for an unknown kind."""
    wanted = listed(setting.config.contestants) or list(CONTESTANTS)
    for name in wanted:
        if name not in CONTESTANTS and name != SEARCH:
            known = [*CONTESTANTS, SEARCH]
            raise ConfigError(f"contestants: unknown kind '{name}'. {suggest(name, known)}")
    return [one for name in wanted if name in CONTESTANTS for one in CONTESTANTS[name](setting)]


def searches(config: EvaluateConfig) -> bool:
    """Whether the search by rendering is among those that a config asks for."""
    wanted = listed(config.contestants)
    return config.searched > 0 and (not wanted or SEARCH in wanted)


def _random(setting: Setting) -> list[Contestant]:
    def choose(setting: Setting, prompts: Sequence[str], seed: int) -> list[Sentence]:
        rng = random.Random(seed)
        return [random_sentence(setting.language, rng) for _ in prompts]

    return [Contestant("random", "a random valid workflow", choose)]


def _default(setting: Setting) -> list[Contestant]:
    def choose(setting: Setting, prompts: Sequence[str], seed: int) -> list[Sentence]:
        return [baselines.best_default(_table(setting), setting.language)] * len(prompts)

    return [Contestant("default", "the best single checkpoint with default settings", choose)]


def _fixed(setting: Setting) -> list[Contestant]:
    def choose(setting: Setting, prompts: Sequence[str], seed: int) -> list[Sentence]:
        return [baselines.fixed(_table(setting))] * len(prompts)

    return [Contestant("fixed", "the best fixed workflow, chosen on training prompts", choose)]


def _routers(setting: Setting) -> list[Contestant]:
    def way(name: str, about: str, choose: Callable[..., list[Sentence]]) -> Contestant:
        return Contestant(name, about, lambda s, prompts, seed: choose(s, _table(s), prompts))

    return [
        way("nearest", "the best workflow of the most alike training prompts", baselines.nearest),
        way("classifier", "a classifier from the prompt to one of the best workflows", baselines.classifier),
        way("comfygen-ic", "ComfyGen-IC: a table of scores by prompt label", baselines.labels),
    ]  # fmt: skip


def _conditioned(setting: Setting) -> list[Contestant]:
    name = setting.config.conditioned
    if not name:
        if "conditioned" in listed(setting.config.contestants):
            raise ConfigError(
                "conditioned: name the run of a policy that was told scores (sft --scored 1)"
            )
        return []
    if not was_told(setting.policies.known(name).folder):
        raise ConfigError(f"conditioned: '{name}' was not told scores (sft --scored 1 --run NAME)")

    def choose(setting: Setting, prompts: Sequence[str], seed: int) -> list[Sentence]:
        return _say(
            setting, setting.speaker(name), [told(prompt, BEST) for prompt in prompts], seed
        )

    return [Contestant("comfygen-ft", "ComfyGen-FT: SFT on scores, asked for the best", choose)]


def _sft(setting: Setting) -> list[Contestant]:
    start = setting.start
    about = f"what GRPO began with, {start} (s = 0)"
    plain = Contestant("sft", about, _of(start), scale=0.0)
    best = Contestant("sft best of n", "the best of n from it, by the ensemble", _best(_of(start)))
    return [plain, best]


def _grpo(setting: Setting) -> list[Contestant]:
    about = "the GRPO policy (s = 1)"
    return [Contestant("grpo", about, _of(run), run, scale=1.0) for run in setting.runs]


def _guided(setting: Setting) -> list[Contestant]:
    """All scales on some prompts, and the one that was taken on all of them."""
    found = [
        Contestant(f"guided {scale:g}", f"guided, s = {scale:g}", _of(run, scale), run, scale, True)
        for scale in setting.config.all_scales
        for run in setting.runs
    ]
    return [replace(one, briefly=one.scale != setting.scale) for one in found]


def _guided_best(setting: Setting) -> list[Contestant]:
    scale = setting.scale
    if scale is None:
        return []
    about = f"the best of n from guided at s = {scale:g}, by the ensemble"
    return [
        Contestant("guided best of n", about, _best(_of(run, scale)), run) for run in setting.runs
    ]


def _variants(setting: Setting) -> list[Contestant]:
    return [
        Contestant(name, f"the policy {name}", _of(name), briefly=True)
        for name in listed(setting.config.variants)
    ]


SEARCH = "search"  # renders while it chooses (evaluate.searching)
CONTESTANTS: Mapping[str, Callable[[Setting], list[Contestant]]] = {
    "random": _random,
    "default": _default,
    "fixed": _fixed,
    "routers": _routers,
    "conditioned": _conditioned,
    "sft": _sft,
    "grpo": _grpo,
    "guided": _guided,
    "best": _guided_best,
    "variants": _variants,
}


def _of(policy: str, scale: float | None = None) -> Callable[..., list[Sentence]]:
    """What a policy says. The same seed gives the same chance at every scale."""

    def choose(
        setting: Setting, prompts: Sequence[str], seed: int, size: int = 1
    ) -> list[Sentence]:
        return _say(setting, setting.speaker(policy, scale), prompts, seed, size)

    return choose


def _say(
    setting: Setting, speaker: Speaker, prompts: Sequence[str], seed: int, size: int = 1
) -> list[Sentence]:
    groups = roll(speaker, prompts, size, seed_of(seed, "say"), setting.config.temperature)
    return [sentence for group in groups for sentence in group]


def _best(say: Callable[..., list[Sentence]]) -> Choose:
    """Of several designs the one that the ensemble bounds highest."""

    def choose(setting: Setting, prompts: Sequence[str], seed: int) -> list[Sentence]:
        count = setting.config.best_of
        said = say(setting, prompts, seed, count)
        asked = [prompt for prompt in prompts for _ in range(count)]
        bounds = setting.bound.afresh()(asked, said)
        groups = [range(first, first + count) for first in range(0, len(said), count)]
        return [said[max(group, key=lambda at: bounds[at])] for group in groups]

    return choose


def _table(setting: Setting) -> Tabulated:
    assert setting.table is not None, "the table is rendered before anything is chosen from it"
    return setting.table
