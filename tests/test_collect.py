"""Collect: a run from its plan to the records; killed, resumed, failing, and with real renders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from collect_toys import ToyRecipe, small
from run_toys import wait_for_steps
from toys import OTHERWISE, every_model

from flowdesign import runs
from flowdesign.catalog import installed
from flowdesign.collect import collect, source_of
from flowdesign.collect.command import tell_figures, tell_step, tell_time
from flowdesign.config import CollectConfig, ConfigError, Step
from flowdesign.designs import renderer_version
from flowdesign.records import Filter, Store, StoredRecord
from flowdesign.scorers import ScorerMissing

HERE = Path(__file__).parent
IMAGES = 42  # of `small`


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with the catalogue's names, whatever is shipped."""
    folder = every_model(tmp_path / "models")
    monkeypatch.setattr("flowdesign.catalog.MODELS", folder)
    return folder


def run(config: CollectConfig, folder: Path, recipe: ToyRecipe | None = None) -> list[Step]:
    folder.mkdir(exist_ok=True)
    seen: list[Step] = []
    runs.prepare(folder, config)
    runs.execute(folder, lambda place: collect(config, place, recipe or ToyRecipe()), seen.append)
    return seen


def stored(folder: Path) -> list[StoredRecord]:
    with Store.open(folder) as store:
        return list(store.stream(Filter()))


def planned(folder: Path) -> Counter[tuple[str, str, int]]:
    """What the plan of a run asks for."""
    rows = map(json.loads, (folder / "plan.jsonl").read_text().splitlines())
    return Counter((r["prompt"], r["sentence"], seed) for r in rows for seed in r["seeds"])


def kept(records: Sequence[StoredRecord]) -> Counter[tuple[str, str, int]]:
    return Counter((one.prompt, one.sentence, one.seed) for one in records)


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_stores_what_its_plan_asks_for(tmp_path: Path) -> None:
    config = small("first", tmp_path / "records", price=3600.0)
    steps = run(config, tmp_path / "first")
    records = stored(tmp_path / "records")
    assert kept(records) == planned(tmp_path / "first")
    assert len(records) == IMAGES
    assert [step.index for step in steps] == list(range(steps[0].total))
    last = steps[-1].metrics
    assert (last["images"], last["of"], last["failed"], last["left"]) == (IMAGES, IMAGES, 0, 0)
    assert last["rate"] > 0
    assert last["cost"] == pytest.approx(2 * last["seconds"], rel=0.2)  # two workers at 1 a second
    for record in records:
        assert record.source == source_of(config) == "collect:first"
        assert record.renderer == renderer_version()
        assert set(record.scores) == {"scene_soft"}
        assert record.assets and record.fidelity == "exact" and not record.failure
    with Store.open(tmp_path / "records") as store:
        assert all(store.image_path(record.image) for record in records)
    figures = runs.read_figures(tmp_path / "first")
    assert figures is not None
    assert (figures["images"], figures["prompts"], figures["workflows"]) == (IMAGES, 12, 6)
    assert figures["repeated"] == 6
    assert figures["hours_for_100000"] == pytest.approx(100_000 / figures["rate"] / 3600, rel=0.01)


def test_a_run_that_is_done_does_nothing_more(tmp_path: Path) -> None:
    config, begun = small("first", tmp_path / "records"), tmp_path / "begun"
    run(config, tmp_path / "first")
    assert run(config, tmp_path / "first", ToyRecipe(begun=begun)) == []
    assert not begun.exists()


def test_what_the_store_has_from_another_run_is_skipped(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    run(small("first", tmp_path / "records", n=12), tmp_path / "first")
    have = len(stored(tmp_path / "records"))
    steps = run(small("second", tmp_path / "records"), tmp_path / "second", ToyRecipe(begun=begun))
    records = stored(tmp_path / "records")
    made = [line.split()[1] for line in begun.read_text().splitlines()]
    assert planned(tmp_path / "second") - kept(records) == Counter()
    assert max(kept(records).values()) == 1
    assert len(made) == len(set(made)) == len(records) - have < IMAGES
    assert steps[-1].metrics["images"] == IMAGES
    again = run(small("third", tmp_path / "records"), tmp_path / "third", ToyRecipe(begun=begun))
    assert len(again) == 1  # which says that all is there
    assert again[0].index + 1 == again[0].total
    assert len(begun.read_text().splitlines()) == len(made)


def test_other_models_under_the_same_names_are_other_records(tmp_path: Path, models: Path) -> None:
    run(small("first", tmp_path / "records"), tmp_path / "first")
    for file in models.glob("checkpoints/*"):
        file.write_bytes(OTHERWISE)
    run(small("second", tmp_path / "records"), tmp_path / "second")
    assert len(stored(tmp_path / "records")) == 2 * IMAGES


def test_a_failing_render_becomes_a_record_and_the_others_go_on(tmp_path: Path) -> None:
    config = small("first", tmp_path / "records")
    steps = run(config, tmp_path / "first", ToyRecipe(fails=" star"))
    records = stored(tmp_path / "records")
    failed = [record for record in records if record.failure]
    assert 0 < len(failed) < IMAGES == len(records)
    assert {(one.failure, one.image) for one in failed} == {
        ("The render failed: no more paint", "")
    }
    assert all(" star" in one.prompt for one in failed)
    assert steps[-1].metrics["failed"] == len(failed)
    assert run(config, tmp_path / "first") == []  # a failure is not tried again ...
    retry = config.model_copy(update={"retry": True})
    last = run(retry, tmp_path / "first")[-1].metrics  # ... unless one asks for it
    assert (last["images"], last["failed"]) == (IMAGES, 0)
    assert not [one for one in stored(tmp_path / "records") if one.failure]


def test_a_job_that_ends_its_worker_every_time_is_the_only_failure(tmp_path: Path) -> None:
    config = small("first", tmp_path / "records", n=8, prompt_count=8, repeated=0.0)
    run(small("plan", tmp_path / "other", n=8, prompt_count=8, repeated=0.0), tmp_path / "plan")
    victim = next(iter(planned(tmp_path / "plan")))[0]
    run(config, tmp_path / "first", ToyRecipe(kills=victim))
    records = stored(tmp_path / "records")
    assert len(records) == 8
    assert [one.prompt for one in records if one.failure] == [victim]


# --- killed and resumed --------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
folder, records, models, run, ray = sys.argv[1:6]
sys.path[:0] = sys.argv[6:]
if __name__ == "__main__":
    from collect_toys import ToyRecipe, small
    import flowdesign.catalog
    flowdesign.catalog.MODELS = Path(models)
    from flowdesign import runs
    from flowdesign.collect import collect
    config = small(run, Path(records), n=96, ray=ray)
    Path(folder).mkdir(exist_ok=True)
    runs.prepare(Path(folder), config)
    recipe = ToyRecipe(0.02, begun=Path(folder).parent / "begun")
    runs.execute(Path(folder), lambda place: collect(config, place, recipe))
"""


def child(tmp_path: Path, ray: str = "") -> subprocess.Popen[bytes]:
    program = tmp_path / "program.py"
    program.write_text(CHILD)
    places = [tmp_path / "first", tmp_path / "records", tmp_path / "models"]
    command = [sys.executable, program, *places, "first", ray, HERE.parent, HERE]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(HERE)})


def test_sigkill_loses_and_doubles_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    for count in (2, 9, 19):
        process = child(tmp_path)
        wait_for_steps(folder, count, 200)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        status = runs.read_status(folder)
        assert status is not None and status.state == "crashed"
    assert child(tmp_path).wait(timeout=200) == 0
    records = stored(tmp_path / "records")
    assert kept(records) == planned(folder)
    assert max(kept(records).values()) == 1
    steps = [row["step"] for row in runs.read_metrics(folder)]
    assert steps == list(range(steps[-1] + 1))  # none is missing, none twice
    last = runs.read_metrics(folder)[-1]
    assert last["images"] == last["of"] == len(records)
    # Only what was on the way at a kill was begun twice: two workers, two batches of four each.
    lines = (tmp_path / "begun").read_text().splitlines()
    assert len(records) <= len(lines) <= len(records) + 3 * 16


def test_a_step_is_recorded_whose_batch_was_stored_just_before_the_kill(tmp_path: Path) -> None:
    config, folder = small("first", tmp_path / "records"), tmp_path / "first"
    run(config, folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))
    steps = run(config, folder)
    assert [step.index for step in steps] == [len(lines) - 1]
    assert len(stored(tmp_path / "records")) == IMAGES


def test_a_stop_file_ends_the_run_and_it_goes_on(tmp_path: Path) -> None:
    config, folder = small("first", tmp_path / "records"), tmp_path / "first"
    runs.prepare(folder, config)

    def stop(step: Step) -> None:
        if step.index == 2:
            runs.request_stop(folder)

    assert runs.execute(folder, lambda f: collect(config, f, ToyRecipe()), stop).state == "stopped"
    assert 0 < len(stored(tmp_path / "records")) < IMAGES
    assert runs.read_figures(folder) is None
    assert run(config, folder)[0].index == 3
    assert kept(stored(tmp_path / "records")) == planned(folder)


def test_on_ray_the_same_run_makes_the_same_records(tmp_path: Path) -> None:
    """The driver is killed as well, in the middle of the run."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray>=2.50'")
    process = child(tmp_path, ray="local")
    wait_for_steps(tmp_path / "first", 5, 200)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert child(tmp_path, ray="local").wait(timeout=200) == 0
    records = stored(tmp_path / "records")
    assert kept(records) == planned(tmp_path / "first")
    assert max(kept(records).values()) == 1


# --- what cannot be carried out ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"also": "pikscore"}, "Did you mean 'pickscore'"),
        ({"prompts": "/no/such/file"}, "there is no file"),
        ({"policy": "no_such_policy"}, "policy: No policy in"),
        ({"ray": "not an address"}, "no cluster answers|Ray is not installed"),
    ],
)
def test_what_is_missing_is_told_before_any_work(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    config = small("first", tmp_path / "records", **options)
    with pytest.raises(ConfigError, match=words):
        list(collect(config, tmp_path))


def test_weights_of_the_hub_are_fetched_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, by the run, and not by all of its workers at the same time."""
    fetched: list[str] = []
    monkeypatch.setenv("FLOWDESIGN_SCORERS", str(tmp_path))
    monkeypatch.setattr("flowdesign.scorers.sources.is_cached", lambda repository, file: False)
    monkeypatch.setattr("flowdesign.scorers.load", fetched.append)
    config = small("first", tmp_path / "records", also="pickscore", policy="no_such_policy")
    with pytest.raises(ConfigError, match="policy: "):  # the scorer is no hindrance
        list(collect(config, tmp_path))
    assert fetched == ["pickscore"]


def test_weights_that_the_hub_does_not_give_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise ScorerMissing("The hub does not answer.")

    monkeypatch.setenv("FLOWDESIGN_SCORERS", str(tmp_path))
    monkeypatch.setattr("flowdesign.scorers.sources.is_cached", lambda repository, file: False)
    monkeypatch.setattr("flowdesign.scorers.load", refuse)
    config = small("first", tmp_path / "records", also="pickscore")
    with pytest.raises(ConfigError, match="not here yet.*The hub does not answer"):
        list(collect(config, tmp_path))


def test_progress_is_told_in_words() -> None:
    metrics = {"images": 1200, "of": 22400, "failed": 3, "rate": 5.25, "seconds": 240.0}
    metrics |= {"cost": 1.5, "left": 4040}
    text = tell_step(Step(3, 90, metrics))
    assert text == "1,200 of 22,400 images, 3 failed, 5.25/s, cost 1.50, 4 min so far, 67 min left"
    assert [tell_time(s) for s in (3, 100, 7250)] == ["3 s", "2 min", "2 h 1 min"]
    figures = {"images": 9, "failed": 0, "prompts": 2, "workflows": 3, "seconds": 3.0}
    figures |= {"rate": 3.0, "workers": 2, "hours_for_100000": 9.26}
    assert "3.00 images/s with 2 workers: 100,000 take 9.3 h" in tell_figures(figures)


# --- from a policy -------------------------------------------------------------------------------


def test_workflows_of_a_policy_are_collected(tmp_path: Path) -> None:
    from toys import write_tiny_base

    from flowdesign.policy import Anatomy, Policy

    base = write_tiny_base(tmp_path / "base")
    Policy.create(Anatomy(str(base), 2), "fp32", models=installed()).save(tmp_path / "policy")
    (tmp_path / "prompts.txt").write_text("a red star\ntwo blue hearts\n")
    options = {"prompts": str(tmp_path / "prompts.txt"), "policy": str(tmp_path / "policy")}
    config = small("first", tmp_path / "records", n=5, repeated=0.0, **options)
    run(config, tmp_path / "first")
    records = stored(tmp_path / "records")
    assert kept(records) == planned(tmp_path / "first")
    counts = Counter(record.prompt for record in records)
    assert counts["a red star"] == 3 and counts["two blue hearts"] == 2
    assert run(config, tmp_path / "first") == []
