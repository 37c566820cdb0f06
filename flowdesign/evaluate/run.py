"""An evaluation as a run: choose, render, judge, compare.

    1  the baselines' workflows on training prompts      (table)
    2  the guidance scale, on validation prompts         (chosen.json)
    3  what every contestant says for the test prompts   (choices/)
    4  all of that rendered, some prompts after the other, and judged by scorers, never by the ensemble
    5  the search by rendering, for some prompts
    6  sentences without the grammar                     (free.json)
    7  the figures                                       (figures.json, scores.jsonl.gz)

What was chosen is in the run's folder and what was rendered in its store (records/ there, unless another
is named), so a run that goes on makes nothing twice, on another machine neither: a copy of the folder is
all that it needs, beside the same models, policies, ensemble and versions. A step is a batch of images or a
block of prompts.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flowdesign import runs
from flowdesign.catalog import installed
from flowdesign.collect.making import Recipe
from flowdesign.collect.pictures import draw_all
from flowdesign.collect.plan import Pair, read_lines, whole_lines
from flowdesign.collect.rendering import checked_recipe
from flowdesign.config import ConfigError, EvaluateConfig, Step, listed
from flowdesign.evaluate import baselines
from flowdesign.evaluate.contestants import SEARCH, Contestant, contestants, searches
from flowdesign.evaluate.gallery import Gallery
from flowdesign.evaluate.measured import Measured, groups_of
from flowdesign.evaluate.pictures import FOLDER, pictured
from flowdesign.evaluate.report import keep_scores, report
from flowdesign.evaluate.scale import choose_scale
from flowdesign.evaluate.searching import climb
from flowdesign.evaluate.setting import Sentence, Setting, Tabulated, pairs_for, seed_of
from flowdesign.grpo.yardsticks import best_fixed
from flowdesign.policy import fingerprint as policy_digest
from flowdesign.records import Store
from flowdesign.reward.ensemble import fingerprint as reward_digest
from flowdesign.tokens import parse_sentence, random_sentence, sentence_text

BLOCK = 32  # prompts that a contestant chooses for at once
BLIND_PROMPTS, BLIND_STARTS = 32, 4  # of the search for a fixed workflow under the ensemble
PORTION = 32  # prompts that are rendered for all contestants before the next ones
FREE_EACH = 10  # sentences without the grammar for a prompt
CHOSEN, FREE, CHOICES = "chosen.json", "free.json", "choices"


def evaluate(config: EvaluateConfig, folder: Path, recipe: Recipe | None = None) -> runs.Steps:
    """Compare contestants; yield a step for every batch of images and block of choices.

    Raises config.ConfigError, request.BadRequest for policies that cannot be used,
    reward.ensemble.RewardError, runs.RunConflict where a policy or the ensemble has changed.
    """
    with _opened(config, folder, recipe or checked_recipe(config)) as evaluation:
        yield from evaluation.steps()


def so_far(config: EvaluateConfig, folder: Path, recipe: Recipe | None = None) -> dict[str, Any]:
    """The figures of those prompts that are rendered for all contestants; nothing is made.

    Without the search and without what is said without the grammar. Raises what `evaluate` does, and
    ConfigError where there is nothing to tell yet.
    """
    with _opened(config, folder, recipe or checked_recipe(config)) as evaluation:
        return evaluation.so_far()


@contextmanager
def _opened(config: EvaluateConfig, folder: Path, recipe: Recipe) -> Iterator[Evaluation]:
    import torch

    torch.set_num_threads(config.threads)
    models = installed()
    setting = Setting(config, models)
    contestants(setting)  # whoever cannot be had is told before any work
    runs.check_origin(folder, origin_of(setting))
    place = Path(config.records) if config.records else folder / "records"
    source = f"evaluate:{config.run}"
    with (
        closing(Store.open(place)) as store,
        Gallery(config, store, models, recipe, source) as gallery,
    ):
        yield Evaluation(setting, folder, gallery)


def origin_of(setting: Setting) -> dict[str, str]:
    """Digests of the policies and the ensemble that are compared."""
    config = setting.config
    names = [*setting.runs, *listed(config.conditioned), *listed(config.variants)]
    wanted = [setting.policies.known(name) for name in names if name]
    found = {f"policy {one.name}": policy_digest(one.folder) for one in wanted}
    return found | {"reward": reward_digest(runs.folder_of(config.reward))}


class Evaluation:
    """The work of one run, in the order above."""

    def __init__(self, setting: Setting, folder: Path, gallery: Gallery) -> None:
        self.setting, self.config = setting, setting.config
        self.folder, self.gallery = folder, gallery
        rows = runs.read_metrics(folder)
        self.index = len(rows)
        self.images = int(rows[-1]["images"]) if rows else 0
        self.left = 0  # batches of the stage that is rendered
        self.tests = setting.prompts("test", self.config.prompt_count)

    def steps(self) -> runs.Steps:
        """All stages; writes figures.json at the end."""
        yield from self._tabulate()
        yield from self._choose_scale()
        many = contestants(self.setting)
        for one in many:
            yield from self._choose(one)
        measured = [self._measured(one) for one in many]
        portions = range(0, len(self.tests), PORTION)
        yield from self._render(
            *([p for one in measured for p in one.pairs[at : at + PORTION]] for at in portions)
        )
        if searches(self.config):
            measured.append((yield from self._search(measured)))
        free = yield from self._speak_freely(many)
        for each in measured:
            each.records = self.gallery.shown(each.pairs)
        groups = groups_of(self.setting, measured)
        figures = report(self.setting, self.tests, groups, free)
        keep_scores(groups, self.folder)
        runs.write_figures(self.folder, figures)
        draw_all(pictured(figures), self.folder / FOLDER, self.setting.models)

    def so_far(self) -> dict[str, Any]:
        """The figures of the first prompts, as many as are rendered for all contestants."""
        path = self.folder / CHOSEN
        if path.exists():
            self.setting.chosen = json.loads(path.read_text("utf-8"))
        measured = [self._measured(one) for one in contestants(self.setting)]
        missing = self.gallery.missing([pair for one in measured for pair in one.pairs])
        lacking = {job.prompt for batch in missing for job in batch.jobs}
        chosen = all(len(one.pairs) == len(self._prompts(one.contestant)) for one in measured)
        done = [prompt not in lacking for prompt in self.tests]
        count = [*done, False].index(False) if chosen else 0
        if count < 2:
            raise ConfigError(
                "There are no figures yet: fewer than two prompts are rendered for all contestants."
            )
        for one in measured:
            one.pairs, one.seconds = one.pairs[:count], one.seconds[:count]
            one.records = self.gallery.shown(one.pairs)
        groups = groups_of(self.setting, measured)
        return report(self.setting, self.tests[:count], groups, {})

    def _tabulate(self) -> runs.Steps:
        """Render the baselines' workflows for training prompts."""
        config, setting = self.config, self.setting
        prompts = setting.prompts("train", config.table_prompts)
        sentences = self._kept("table.json", self._candidates)
        each = [prompt for prompt in prompts for _ in sentences]
        pairs = pairs_for("choose", 1, each, sentences * len(prompts), config)
        scores = yield from self._judged(pairs)
        shape = len(prompts), len(sentences)
        known = tuple(parse_sentence(text) for text in sentences)
        setting.table = Tabulated(tuple(prompts), known, np.array(scores).reshape(shape))

    def _candidates(self) -> list[str]:
        """Workflows to choose from: defaults, what the records show, and what the ensemble likes best
        where it may not look at the prompt."""
        setting, config = self.setting, self.config
        found = baselines.default_sentences(setting.language)
        found += baselines.promising(setting.records, setting.combined, config.table_workflows)
        rng = np.random.default_rng(seed_of(config.seed, "blind"))
        chance = [seed_of(config.seed, "blind", at) for at in range(BLIND_STARTS)]
        over = setting.prompts("train", config.table_prompts)[:BLIND_PROMPTS]
        starts = [_random(setting, int(one)) for one in rng.permutation(chance)]
        found.append(best_fixed(setting.bound, over, starts, setting.language, config.seed)[1])
        return [sentence_text(one) for one in dict.fromkeys(found)]

    def _choose_scale(self) -> runs.Steps:
        """Take a guidance scale that does best for validation prompts."""
        config, setting = self.config, self.setting
        path = self.folder / CHOSEN
        many = [one for one in contestants(setting) if one.scale is not None and one.run]
        if not many:
            return
        prompts = setting.prompts("validation", config.choose_prompts)
        scores: dict[float, list[list[float]]] = {}
        for one in many:
            yield from self._choose(one, "validation", prompts)
            said = [row["sentence"] for row in read_lines(self._choices(one, "validation"))]
            pairs = pairs_for("choose", 1, prompts, said, config)
            assert one.scale is not None
            scores.setdefault(one.scale, []).append((yield from self._judged(pairs)))
        setting.chosen = choose_scale({scale: np.array(each) for scale, each in scores.items()})
        runs.replace_text(path, json.dumps(setting.chosen, indent=2) + "\n")

    def _choose(
        self, one: Contestant, part: str = "test", prompts: Sequence[str] | None = None
    ) -> runs.Steps:
        """Let a contestant choose for its prompts, a block at a time; goes on where it was."""
        prompts = self._prompts(one) if prompts is None else prompts
        path = self._choices(one, part)
        for first in range(_begun(path, len(prompts)), len(prompts), BLOCK):
            block = prompts[first : first + BLOCK]
            began = time.monotonic()
            said = one.choose(self.setting, block, seed_of(self.config.seed, "choose", first))
            seconds = (time.monotonic() - began) / len(block)
            rows = [{"sentence": sentence_text(s), "seconds": round(seconds, 4)} for s in said]
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))
            yield self._step()

    def _measured(self, one: Contestant) -> Measured:
        prompts, path = self._prompts(one), self._choices(one, "test")
        rows = whole_lines(path)[: len(prompts)]
        said = [row["sentence"] for row in rows]
        pairs = self._pairs(prompts[: len(rows)], said)
        return Measured(one, pairs, [row["seconds"] for row in rows])

    def _search(self, measured: Sequence[Measured]) -> Generator[Step, None, Measured]:
        """Search by rendering for the first prompts, then render what was found with the seeds that count."""
        prompts = self.tests[: self.config.searched]
        starts = [
            [parse_sentence(one.pairs[at].sentence) for one in measured]
            for at in range(len(prompts))
        ]
        tried: dict[Pair, None] = {}

        def judge(pairs: Sequence[Pair]) -> Generator[Step, None, list[float]]:
            tried.update(dict.fromkeys(pairs))
            return (yield from self._judged(pairs))

        language = self.setting.language
        found = yield from climb(judge, prompts, starts, language, self.config)
        seconds = self._seconds(list(tried)) / max(1, len(prompts))
        about = f"searched for by rendering, {self.config.rounds} rounds"
        contestant = Contestant(SEARCH, about, lambda *_: [])
        pairs = self._pairs(prompts, [sentence_text(one) for one in found])
        yield from self._render(pairs)
        return Measured(contestant, pairs, [seconds] * len(prompts))

    def _seconds(self, pairs: Sequence[Pair]) -> float:
        """How long the images of pairs took, whenever they were made."""
        return sum(one.seconds for row in self.gallery.shown(pairs) for one in row)

    def _speak_freely(self, many: Sequence[Contestant]) -> Generator[Step, None, dict[str, Any]]:
        """How many sentences are workflows without the grammar, at each scale of the first run."""
        path = self.folder / FREE
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        asked = [o for o in many if o.scale is not None and o.run in ("", self.setting.runs[0])]
        for one in asked if self.config.free else ():
            if one.name in found:
                continue
            found[one.name] = {"scale": one.scale} | self._freely(one)
            runs.replace_text(path, json.dumps(found, indent=2) + "\n")
            yield self._step()
        return found

    def _freely(self, one: Contestant) -> dict[str, int]:
        speaker = self.setting.speaker(
            one.run or self.setting.start, one.scale if one.run else None
        )
        samples = [
            sample
            for at, prompt in enumerate(self.tests[: -(-self.config.free // FREE_EACH)])
            for sample in speaker.sample(
                prompt, FREE_EACH, seed_of(self.config.seed, "free", at), self.config.temperature,
                constrained=False,
            )
        ]  # fmt: skip
        return {"samples": len(samples), "valid": sum(sample.valid for sample in samples)}

    def _prompts(self, one: Contestant) -> list[str]:
        return self.tests[: self.config.curve_prompts] if one.briefly else self.tests

    def _choices(self, one: Contestant, part: str) -> Path:
        """The file of what a contestant chose for the prompts of a split."""
        place = self.folder / CHOICES
        place.mkdir(exist_ok=True)
        return place / f"{part} {one.key}.jsonl"

    def _pairs(self, prompts: Sequence[str], said: Sequence[str]) -> list[Pair]:
        """What is measured: images with seeds that nothing was chosen by."""
        return pairs_for("measure", self.config.seeds, prompts, said, self.config)

    def _kept(self, name: str, make: Any) -> list[str]:
        """A list that is made once and kept in the run's folder."""
        path = self.folder / name
        if not path.exists():
            runs.replace_text(path, json.dumps(make(), indent=1) + "\n")
        found: list[str] = json.loads(path.read_text("utf-8"))
        return found

    def _judged(self, pairs: Sequence[Pair]) -> Generator[Step, None, list[float]]:
        """Render pairs and give the mean combined score of each; an image that failed counts as the worst."""
        yield from self._render(pairs)
        rows = [[self.setting.combined(r) for r in row] for row in self.gallery.shown(pairs)]
        worst = np.nanmin(np.array([value for row in rows for value in row] or [0.0]))
        return [float(np.mean(np.nan_to_num(row, nan=worst))) for row in rows]

    def _render(self, *portions: Sequence[Pair]) -> Iterator[Step]:
        """Make what is missing of one portion after the other."""
        batches = [batch for pairs in portions for batch in self.gallery.missing(pairs)]
        self.left = len(batches)
        for count in self.gallery.render(batches):
            self.left -= 1
            self.images += count
            yield self._step()

    def _step(self) -> Step:
        self.index += 1
        metrics = {"images": self.images, "left": self.left}
        return Step(self.index - 1, self.index + self.left, metrics)


def _begun(path: Path, count: int) -> int:
    """How many choices of `count` a file has; a block that was cut short by a crash is taken away, since a
    block's chance follows from where it begins."""
    rows = read_lines(path)
    if len(rows) >= count or not len(rows) % BLOCK:
        return len(rows)
    kept = rows[: len(rows) // BLOCK * BLOCK]
    runs.replace_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    return len(kept)


def _random(setting: Setting, seed: int) -> Sentence:
    return random_sentence(setting.language, random.Random(seed))
