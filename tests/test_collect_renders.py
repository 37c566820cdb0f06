"""Collect: real renders by random models, and the hashes of their files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from collect_toys import small, tiny_catalogue, use_models
from PIL import Image
from toys import NO_TENSORS, OTHERWISE, every_model

from flowdesign import comfy, runs
from flowdesign.catalog import Installed, installed
from flowdesign.collect import collect
from flowdesign.collect.batches import Job, make_batches, plan_workflow
from flowdesign.collect.making import Maker, OtherModels, RenderRecipe
from flowdesign.collect.plan import random_pairs
from flowdesign.config import CollectConfig
from flowdesign.designs import renderer_version
from flowdesign.provenance import ModelHashes
from flowdesign.records import Filter, Store, StoredRecord
from flowdesign.render import Renderer
from flowdesign.scorers import load_all
from flowdesign.tokens import VOCABULARY, Automaton


def stored(folder: Path) -> list[StoredRecord]:
    with Store.open(folder) as store:
        return list(store.stream(Filter()))


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_catalogue(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_models(tiny_models, monkeypatch)
    return tiny_models


def real_run(config: CollectConfig, folder: Path) -> runs.Status:
    runs.prepare(folder, config)
    return runs.execute(folder, lambda place: collect(config, place))


def jobs_of(count: int, models: Installed, seed: int = 0) -> list[Job]:
    config = CollectConfig(n=count, seeds=2, seed=seed)
    prompts = ["a red star on white", "two blue circles", "a blue square", "red star"]
    pairs = random_pairs(config, prompts, Automaton(VOCABULARY, models))
    hashes = ModelHashes(models)
    designs = {p.sentence: plan_workflow(p.sentence, hashes.of) for p in pairs}
    batches = make_batches(pairs, designs, renderer_version(), 1000)
    return [job for batch in batches for job in batch.jobs]


def maker(models: Installed) -> Maker:
    return Maker(Renderer(models, batch=8), load_all(CollectConfig().all_scorers), models)


def test_a_real_run_renders_scores_and_keeps_pictures_with_their_workflow(
    tmp_path: Path, tiny: Path
) -> None:
    config = small("real", tmp_path / "records", n=6, repeated=0.5, workers=1)
    assert real_run(config, tmp_path / "real").state == "finished"
    records = stored(tmp_path / "records")
    assert len(records) == 15  # six pairs, three of them with four seeds
    assert not [record.failure for record in records if record.failure]
    with Store.open(tmp_path / "records") as store:
        for record in records:
            path = store.image_path(record.image)
            assert path is not None
            found = comfy.read_file(path)
            assert (found.workflow, found.prompt, found.seed) == (
                record.workflow, record.prompt, record.seed,
            )  # fmt: skip
            assert set(record.scores) == set(config.all_scorers)
            assert record.seconds > 0


def test_the_scores_are_those_of_the_picture_and_its_prompt(tiny: Path) -> None:
    models = installed()
    jobs = jobs_of(2, models)
    for job, outcome in zip(jobs, maker(models)(jobs), strict=True):
        image = Image.open(BytesIO(outcome.png))
        for scorer in load_all(("scene_soft", "sharpness")):
            assert outcome.scores[scorer.name] == scorer([job.prompt], [image])[0]


def test_a_batch_makes_what_its_jobs_make_alone(tiny: Path) -> None:
    models = installed()
    jobs = jobs_of(6, models)
    together, alone = maker(models)(jobs), [maker(models)([job])[0] for job in jobs]
    for one, other in zip(together, alone, strict=True):
        assert one.scores["scene_soft"] == pytest.approx(other.scores["scene_soft"], abs=0.21)
        assert one.scores["sharpness"] == pytest.approx(other.scores["sharpness"], rel=0.05)


class Refusing:
    """A renderer that breaks at the batch and at jobs of one seed."""

    def __init__(self, inner: Any, breaks: int) -> None:
        self.inner, self.breaks = inner, breaks

    def render(self, jobs: Sequence[Any]) -> Any:
        seeds = {
            node["inputs"].get(name)
            for job in jobs
            for node in job.workflow.values()
            for name in ("seed", "noise_seed")
        }
        if self.breaks in seeds:
            raise RuntimeError("the sampler met a NaN at step 3")
        return self.inner.render(jobs)


def test_a_render_that_breaks_takes_no_other_along(tiny: Path) -> None:
    models = installed()
    jobs = jobs_of(4, models)[:4]
    renderer = Refusing(Renderer(models), jobs[1].seed)
    outcomes = Maker(renderer, load_all(["scene_soft"]), models)(jobs)  # type: ignore[arg-type]
    assert [at for at, one in enumerate(outcomes) if one.failure] == [1]
    assert outcomes[1].failure == "The render failed: the sampler met a NaN at step 3"
    assert all(one.png and one.scores for one in outcomes if not one.failure)


def test_a_refused_workflow_is_a_failure_with_the_reasons(tiny: Path) -> None:
    models = installed()
    (job, *_) = jobs_of(1, models)
    broken = {**job.workflow}
    node = next(n for n, each in broken.items() if each["class_type"] == "KSampler")
    inputs = {**broken[node]["inputs"], "sampler_name": "no_such"}
    broken[node] = {"class_type": "KSampler", "inputs": inputs}
    (outcome,) = maker(models)([Job(job.prompt, broken, "", job.seed, job.assets, job.key)])
    assert "no_such" in outcome.failure and not outcome.png


def test_a_worker_with_other_model_files_says_so(tiny: Path) -> None:
    models = installed()
    (job, *_) = jobs_of(1, models)
    name = next(iter(job.assets))
    other = Job(
        job.prompt, job.workflow, job.sentence, job.seed, {**job.assets, name: "0"}, job.key
    )
    with pytest.raises(OtherModels, match=name):
        maker(models)([other])


def test_without_images_scores_are_stored_alone(tmp_path: Path, tiny: Path) -> None:
    config = small("first", tmp_path / "records", images=False, n=2, repeated=0.0, workers=1)
    assert real_run(config, tmp_path / "first").state == "finished"
    (one, two) = stored(tmp_path / "records")
    assert one.image == two.image == "" and one.scores and two.scores and not one.failure


def test_hashes_follow_the_content_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = every_model(tmp_path / "models")
    monkeypatch.setattr("flowdesign.catalog.MODELS", models)
    hashes = ModelHashes(installed())
    before = hashes.hash("checkpoints", "mini_flat")
    assert before == hashlib.sha256(NO_TENSORS).hexdigest()
    (models / "checkpoints" / "mini_flat.safetensors").write_bytes(OTHERWISE)
    after = hashes.hash("checkpoints", "mini_flat")
    assert after == hashlib.sha256(OTHERWISE).hexdigest() != before


def test_the_hash_of_a_folder_depends_on_names_and_contents(tiny: Path, tmp_path: Path) -> None:
    hashes = ModelHashes(installed())
    assert hashes.hash("checkpoints", "mini_flat") == hashes.hash("checkpoints", "mini_night")
    file = tiny / "checkpoints" / "mini_night" / "model_index.json"
    text = file.read_text()
    try:
        file.write_text(text + " ")
        assert hashes.hash("checkpoints", "mini_flat") != hashes.hash("checkpoints", "mini_night")
    finally:
        file.write_text(text)


@pytest.mark.parametrize(("threads", "workers", "each"), [(4, 2, 2), (1, 2, 1), (3, 1, 3)])
def test_processes_that_render_share_the_threads(
    tiny: Path, threads: int, workers: int, each: int
) -> None:
    """Two processes with two threads each on two cores wait for one another most of the time."""
    before = torch.get_num_threads()
    try:
        RenderRecipe(CollectConfig(threads=threads, workers=workers)).open()
        assert torch.get_num_threads() == each
    finally:
        torch.set_num_threads(before)
