"""Charts, jobs and thumbnails of the Data tab on their own, and designs that become records."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from data_toys import png_bytes
from PIL import Image
from studio_toys import toy_studio
from waiting import until

from flowdesign.access import AccessConfig, Person
from flowdesign.records import sha_of
from flowdesign.request import Request
from flowdesign.studio import Rendered
from flowdesign.ui import charts, keeping
from flowdesign.ui.charts import Bin, Mean
from flowdesign.ui.gate import Gate
from flowdesign.ui.jobs import Job, Jobs, Told, TooMany
from flowdesign.ui.jobs_view import bars
from flowdesign.ui.keeping import Keeping
from flowdesign.ui.shared import SharedStore
from flowdesign.ui.thumbnails import Unreadable, thumbnail

# --- charts


def test_a_histogram_says_its_figures_in_words() -> None:
    chart = charts.histogram("sharpness", [Bin(0, 1, 3), Bin(1, 2, 1)], missing=2)
    assert "4 scores from 0.00 to 2.00, about 0.75 on average; 2 have none" in chart
    assert "height:100.0%" in chart and "height:33.3%" in chart
    assert "No scores" in charts.histogram("<b>", []) and "<b>" not in charts.histogram("<b>", [])


def test_components_are_ordered_by_their_mean_and_share_an_axis() -> None:
    rows = [
        Mean("euler", "counting", 0.2, 0.05, 10), Mean("heun", "counting", 0.6, 0.05, 10),
        Mean("euler", charts.ALL, 0.3, 0.02, 30), Mean("heun", charts.ALL, 0.5, 0.02, 30),
        Mean("<i>", "counting", 0.4, None, 1),
    ]  # fmt: skip
    chart = charts.components(rows, "scene_soft")
    everything, counting = chart.split("<section")[1:]
    assert everything.index("heun") < everything.index("euler") and "all prompts" in everything
    assert counting.index("heun") < counting.index("&lt;i&gt;") < counting.index("euler")
    assert "0.600 ± 0.050" in counting and "n 10" in counting and "<i>" not in chart
    assert "width:" not in counting.split("&lt;i&gt;")[1].split("</tr>")[0]  # one has no error


def test_only_a_clear_lead_is_marked() -> None:
    near = [Mean("a", "x", 0.50, 0.05, 9), Mean("b", "x", 0.45, 0.05, 9)]
    clear = [Mean("a", "x", 0.90, 0.05, 9), Mean("b", "x", 0.45, 0.05, 9)]
    assert charts.clear_winner(near) is None
    assert charts.clear_winner(clear) == "a"
    assert charts.clear_winner(clear[:1]) is None
    assert charts.clear_winner([*clear, Mean("c", "x", 0.1, None, 1)]) is None


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [(0.12345, 0.02, "0.123"), (-3.21, 1.5, "−3.2"), (1234.5, 300, "1234"), (-0.0001, 0.1, "0.00"),
     (0.5, 0.0, "0.500"), (0.5, float("inf"), "0.500")],
)  # fmt: skip
def test_figures_have_the_digits_that_mean_something(value: float, step: float, text: str) -> None:
    assert charts.rounded(value, step) == text


def test_many_components_are_cut_and_counted() -> None:
    rows = [Mean(f"cfg {i}", "x", float(i), 1.0, 5) for i in range(40)]
    assert "16 more are not shown" in charts.components(rows, "s")
    assert "No record" in charts.components([Mean("a", "x", float("nan"), None, 1)], "s")


# --- jobs


def ended(job: Job) -> Job:
    until(lambda: not job.open)
    return job


def test_jobs_run_one_after_the_other_and_say_what_came_of_them() -> None:
    jobs, order, go_on = Jobs(), [], threading.Event()

    def work(name: str) -> Any:
        def run(job: Job) -> str:
            assert go_on.wait(20)
            order.append(name)
            return f"{name} is done"

        return run

    first, second = jobs.start("First", work("a")), jobs.start("Second", work("b"))
    assert second.state == "waiting" and jobs.busy
    go_on.set()
    assert ended(second).said == "b is done" and first.state == "done" and order == ["a", "b"]


def test_a_waiting_job_can_be_stopped_before_it_begins() -> None:
    jobs, go_on, began = Jobs(), threading.Event(), []
    jobs.start("First", lambda job: str(go_on.wait(20)))
    second = jobs.start("Second", lambda job: str(began.append(1)))
    second.stop()
    go_on.set()
    assert ended(second).state == "stopped" and not began


def test_faults_are_told_in_words_and_the_next_job_runs(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs()

    def told(job: Job) -> str:
        raise Told("The file holds no records.")

    def broken(job: Job) -> str:
        raise KeyError("x")

    first, second = jobs.start("A", told), jobs.start("B", broken)
    third = jobs.start("C", lambda job: "fine")
    assert ended(third).said == "fine"
    assert (first.state, first.said) == ("failed", "The file holds no records.")
    assert second.state == "failed" and "Traceback" in caplog.text
    assert "no records" not in caplog.text


def test_only_so_many_wait_and_only_the_last_ones_are_listed() -> None:
    jobs, go_on = Jobs(), threading.Event()
    for number in range(8):
        last = jobs.start(f"Job {number}", lambda job: str(go_on.wait(20)))
    with pytest.raises(TooMany):
        jobs.start("One more", lambda job: "")
    go_on.set()
    ended(last)
    for number in range(10):
        ended(jobs.start(f"Later {number}", lambda job: ""))
    assert [job.title for job in jobs.shown()][-1] == "Later 9" and len(jobs.shown()) <= 4
    jobs.forget()
    assert jobs.shown() == []


def test_a_bar_shows_how_far_and_how_long() -> None:
    job = Job(3, "Scoring <b>", total=100, done=25, state="running")
    job.started = time.monotonic() - 30
    shown = bars([job])
    assert "25 of 100, about 90 s left" in shown or "about 2 min left" in shown
    assert 'value="0.2500"' in shown and "<b>&lt;" not in shown and "Scoring &lt;b&gt;" in shown
    assert 'data-job="3"' in shown and "Put away" not in shown
    job.state, job.link = "done", ("x.zip", "Download")
    assert 'href="x.zip"' in bars([job]) and "Put away" in bars([job])
    assert bars([]) == ""


# --- thumbnails


def test_a_thumbnail_keeps_the_shape_and_never_grows(tmp_path: Path) -> None:
    for size, small in (((1000, 500), (256, 128)), ((64, 64), (64, 64))):
        data = png_bytes(Image.new("RGBA", size, "red"))
        path = tmp_path / f"{sha_of(data)}.png"
        path.write_bytes(data)
        with Image.open(thumbnail(path, tmp_path / "cache")) as shown:
            assert shown.size == small and shown.format == "WEBP"


def test_many_visitors_at_once_make_one_whole_thumbnail(tmp_path: Path) -> None:
    data = png_bytes(Image.effect_noise((800, 800), 60))
    path = tmp_path / f"{sha_of(data)}.png"
    path.write_bytes(data)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(thumbnail(path, tmp_path / "c").read_bytes()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert len([one for one in (tmp_path / "c").rglob("*") if one.is_file()]) == 1


def test_an_image_that_claims_too_much_is_not_decoded(tmp_path: Path) -> None:
    data = bytearray(png_bytes(Image.new("1", (8, 8))))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(Unreadable):
        thumbnail(tmp_path / "a.png", tmp_path / "cache")
    with pytest.raises(FileNotFoundError):
        thumbnail(tmp_path / "none.png", tmp_path / "cache")


# --- designs that become records

PAGE: Any = SimpleNamespace(session_hash="page-1", headers={"host": "127.0.0.1"}, client=None)


def home(page: str = "page-1") -> Any:
    return SimpleNamespace(
        session_hash=page, headers={"host": "127.0.0.1"}, client=SimpleNamespace(host="127.0.0.1")
    )


def finished(tmp_path: Path, prompt: str = "a red star") -> Rendered:
    *_, event = toy_studio(tmp_path / "studio").design(Request(prompt, 1, seed=5))
    assert isinstance(event, Rendered)
    return event


def test_at_home_a_design_is_kept_by_itself_with_its_scores(tmp_path: Path) -> None:
    keeps = Keeping(SharedStore(tmp_path / "records"), Gate(AccessConfig()))
    event = finished(tmp_path)
    assert keeps.how(home()) == "itself"
    card = keeps.finish("page-1", event, "itself")
    assert "Kept as record 1" in card and "data-keep" not in card
    record = keeps.records().get(1)
    assert (record.prompt, record.seed, record.source) == ("a red star", 5, "playground")
    assert record.workflow == event.design.workflow and record.sentence == event.design.sentence
    assert {"scene_strict", "scene_soft", "scene_gist", "sharpness"} == set(record.scores)
    assert record.image == sha_of(event.image.read_bytes())
    assert keeps.keep(event) == 1  # the same design again is the same record


def test_outside_the_world_the_judge_says_nothing(tmp_path: Path) -> None:
    keeps = Keeping(SharedStore(tmp_path / "records"), Gate(AccessConfig()))
    keeps.keep(finished(tmp_path, "the sound of rain"))
    assert set(keeps.records().get(1).scores) == {"sharpness"}


def test_on_a_space_nothing_is_kept_unasked(tmp_path: Path) -> None:
    gate = Gate(AccessConfig(space=True, writers=frozenset({"ann"}), admin_token="x" * 20))
    keeps = Keeping(SharedStore(tmp_path / "records"), gate)
    assert keeps.how(home()) == "never"
    card = keeps.finish("page-1", finished(tmp_path), "never")
    assert "data-keep" not in card and "Kept" not in card and not (tmp_path / "records").exists()
    admin = home()
    admin.headers["x-flowdesign-token"] = "x" * 20
    assert keeps.how(admin) == "asked"
    card = keeps.finish("page-1", finished(tmp_path), "asked")
    assert 'data-keep="0"' in card and not (tmp_path / "records").exists()
    kept = keeps.press(Person("admin"), gr.EventData(None, {"keep": "0"}), admin)
    assert "Kept as record 1" in kept and keeps.records().find().total == 1


@pytest.mark.parametrize("sent", ["3", "x", "", None, 0, "9" * 50])
def test_a_design_that_is_gone_is_told(tmp_path: Path, sent: Any) -> None:
    keeps = Keeping(SharedStore(tmp_path / "records"), Gate(AccessConfig()))
    keeps.finish("page-1", finished(tmp_path), "asked")
    with pytest.raises(gr.Error, match="no longer there"):
        keeps.press(Person("owner"), gr.EventData(None, {"keep": sent}), home())
    with pytest.raises(gr.Error, match="no longer there"):
        keeps.press(Person("owner"), gr.EventData(None, {"keep": "0"}), home("another page"))
    keeps.begin("page-1")
    with pytest.raises(gr.Error, match="no longer there"):
        keeps.press(Person("owner"), gr.EventData(None, {"keep": "0"}), home())


def test_a_store_that_cannot_be_opened_does_not_spoil_the_design(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("a file where the folder should be")
    keeps = Keeping(SharedStore(tmp_path / "records"), Gate(AccessConfig()))
    card = keeps.finish("page-1", finished(tmp_path), "itself")
    assert "Not kept:" in card and "<img" in card


def test_only_the_last_pages_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_PAGES", 2)
    keeps = Keeping(SharedStore(tmp_path / "records"), Gate(AccessConfig()))
    event = finished(tmp_path)
    for page in ("a", "b", "c"):
        keeps.finish(page, event, "asked")
    assert list(keeps._finished) == ["b", "c"]
