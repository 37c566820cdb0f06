"""The Data tab without a server: the filter, pages, one record, and what its buttons do."""

import io
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from data_toys import filled, picture, png_bytes, toy_workflow
from starlette.applications import Starlette
from starlette.testclient import TestClient
from waiting import until

from flowdesign.access import AccessConfig, Person
from flowdesign.records import COMBINED, Filter, Record, Store, Vote, exchange
from flowdesign.scorers import ScorerMissing
from flowdesign.standards import Reference, Standard
from flowdesign.ui import (
    data_actions,
    data_charts,
    data_import,
    data_work,
    jobs_view,
    record_view,
    selection,
    uploads,
)
from flowdesign.ui.critics import Critics
from flowdesign.ui.data import PAGE, Data, Place
from flowdesign.ui.data_filter import BLANK, NONE, Asked, BadFilter, read
from flowdesign.ui.files import Exports, routes
from flowdesign.ui.gate import Gate
from flowdesign.ui.jobs import Job, Jobs
from flowdesign.ui.shared import SharedStore
from flowdesign.votes import SCORER

OWNER, VISITOR = Person("owner"), Person("visitor")
COUNT = 120
NO_CRITICS = Critics(Path("/nowhere"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedStore]:
    """A store of 120 synthetic records that no test changes."""
    folder = tmp_path_factory.mktemp("records")
    filled(folder, COUNT).close()
    records = SharedStore(folder)
    yield records
    records.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store of 21 records, closed, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    filled(folder, 21).close()
    return folder


@pytest.fixture
def own(template: Path, tmp_path: Path) -> Iterator[SharedStore]:
    """A store of 21 records for one test."""
    shutil.copytree(template, tmp_path / "records")
    records = SharedStore(tmp_path / "records")
    yield records
    records.close()


def tab(records: SharedStore, space: bool = False) -> Data:
    gate = Gate(AccessConfig(space=space))
    with gr.Blocks(), gr.Tabs(), gr.Tab("Data") as place:
        return Data(records, gate, place, Jobs(), Exports(records), NO_CRITICS)


def asking(view: Data, **values: Any) -> tuple[Any, ...]:
    """The values of the filter's components, those of `values` by their names."""
    named = {id(getattr(view.form, name)): value for name, value in values.items()}
    return tuple(
        named.get(id(one), default) for one, default in zip(view.form.inputs, BLANK, strict=True)
    )


def pressing(**sent: Any) -> Any:
    return gr.EventData(None, sent)


def finish(view: Data) -> Job:
    """Wait for the last job."""
    job = view.jobs.jobs.shown()[-1]
    until(lambda: not job.open)
    return job


# --- the filter


def test_an_empty_filter_asks_for_everything_newest_first() -> None:
    assert read(*BLANK) == Asked(Filter(), "newest")


def test_every_component_reaches_the_filter(shared: SharedStore) -> None:
    view = tab(shared)
    asked = read(
        *asking(
            view, text=" red  star ", order="worst", source="playground", split="test",
            checkpoint="mini_flat", sampler="euler", category=NONE, scorer="sharpness", low="0.1",
            high=" 0.9 ", prompt_split="train", workflow_split="validation", images="yes",
            failed="no", deleted="yes",
        )
    )  # fmt: skip
    assert asked == Asked(
        Filter(
            text="red star", source="playground", split="test", checkpoint="mini_flat",
            sampler="euler", category="", scorer="sharpness", low=0.1, high=0.9,
            prompt_split="train", workflow_split="validation", has_image=True, failed=False,
            deleted=True,
        ),
        "worst",
    )  # fmt: skip


def test_a_score_without_a_scorer_is_the_combined_one(shared: SharedStore) -> None:
    view = tab(shared)
    assert read(*asking(view, low=0.5)).filter.scorer == COMBINED
    assert read(*asking(view, order="best")).filter.scorer == COMBINED


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"low": "2", "high": "−1"}, "above the highest"),
        ({"low": "many"}, "is a number"),
        ({"high": float("nan")}, "is a number"),
        ({"split": "trian"}, "Known: train, validation, test"),
        ({"order": "prettiest"}, "newest"),
        ({"images": ["yes"]}, "is no image"),
        ({"deleted": True}, "is no records"),
    ],
)
def test_absurd_filters_are_told(shared: SharedStore, values: Any, words: str) -> None:
    view = tab(shared)
    with pytest.raises(BadFilter, match=words):
        read(*asking(view, **values))
    shown = view.search(*asking(view, **values))
    assert set(shown) == {view.found} and "alert" in shown[view.found]


def test_clearing_sets_only_what_was_set(shared: SharedStore) -> None:
    view = tab(shared)
    shown = view.clear(*asking(view, text="red", order="best", low=None))
    assert (shown[view.form.text], shown[view.form.order]) == ("", "newest")
    assert view.form.low not in shown and view.form.source not in shown
    assert f"of {COUNT} records" in shown[view.found]


@pytest.mark.parametrize("text", ["\0", "'; DROP TABLE records; --", '"', "%_*", "🦊" * 10_000])
def test_any_text_can_be_searched(shared: SharedStore, text: str) -> None:
    view = tab(shared)
    assert "No record matches" in view.search(*asking(view, text=text))[view.grid] or text == "\0"


def test_what_is_found_is_what_was_asked(shared: SharedStore) -> None:
    view = tab(shared)
    place = view.search(*asking(view, source="playground", failed="no"))[view.place]
    found = [shared().get(number) for number in place.ids]
    assert found and all(one.source == "playground" and not one.failure for one in found)
    assert len(found) == sum(
        one.source == "playground" and not one.failure for one in shared().stream()
    )


# --- pages


def test_pages_follow_each_other_without_gap_or_repeat(shared: SharedStore) -> None:
    view = tab(shared)
    shown = view.search(*BLANK)
    assert f"1 to {PAGE} of {COUNT} records" in shown[view.found]
    assert not shown[view.before]["interactive"] and shown[view.after]["interactive"]
    seen, place = [], shown[view.place]
    while True:
        seen += place.ids
        shown = view.forward(place, *BLANK)
        if shown[view.place].cursors == place.cursors:
            break
        place = shown[view.place]
    assert seen == sorted((one.id or 0 for one in shared().stream()), reverse=True)
    assert not shown[view.after]["interactive"]
    back = view.back(place, *BLANK)[view.place]
    assert back.ids == tuple(seen[PAGE : 2 * PAGE])


def test_a_page_that_was_left_is_shown_again(shared: SharedStore) -> None:
    view = tab(shared)
    first = view.search(*BLANK)[view.place]
    second = view.forward(first, *BLANK)[view.place]
    again = view.arrive(OWNER, second, *BLANK)
    assert again[view.place].ids == second.ids
    choices = [label for label, _ in again[view.form.source]["choices"]]
    assert choices == ["any", "collect:toys (40)", "import:old pictures (40)", "playground (40)"]


def test_a_tile_shows_picture_score_split_and_words(shared: SharedStore) -> None:
    (record,) = (one for one in shared().stream() if one.id == 1)
    tile = record_view.tiles([record], "sharpness")
    assert f"thumb/{record.image}.webp" in tile and 'data-record="1"' in tile
    assert record.prompt in tile and f"{record.scores['sharpness']:.3g}" in tile


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    view = tab(SharedStore(tmp_path))
    shown = view.arrive(OWNER, Place(), *BLANK)
    assert (
        "No records yet" in shown[view.grid] and "python -m flowdesign collect" in shown[view.grid]
    )


def test_ordering_by_a_score_that_nothing_has_says_how_to_get_one(shared: SharedStore) -> None:
    view = tab(shared)
    assert "under Weights" in view.search(*asking(view, order="best"))[view.grid]


def test_a_store_of_a_newer_version_is_told(tmp_path: Path) -> None:
    import sqlite3

    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "records.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 999")
    view = tab(SharedStore(tmp_path))
    shown = view.arrive(OWNER, Place(), *BLANK)
    assert "newer FlowDesign" in shown[view.found]


# --- one record


def test_a_record_opens_to_all_that_is_known_of_it(own: SharedStore) -> None:
    store = own()
    first = store.get(1)
    (twin,) = store.add([Record(first.prompt, first.workflow, seed=999)])
    store.vote(Vote(1, twin, "left", "local:ann", "token-1", milliseconds=1500))
    view = tab(own)
    shown = view.open_record(Place(ids=(2, 1)), pressing(record="1"))[view.record]
    for part in (
        f"image/{first.image}.png", "<svg", escape(first.sentence), "Split of the prompt",
        "Split of the workflow", "scene_soft", "It won against", "by local:ann, 1.5 s",
        "workflow/1.api.json", "workflow/1.ui.json",
    ):  # fmt: skip
        assert part in shown, part


def test_a_record_is_escaped(tmp_path: Path) -> None:
    records = SharedStore(tmp_path)
    evil = "<img src=x onerror=alert(1)>"
    graph = {"1": {"class_type": evil, "inputs": {"text": evil, "n": float(2)}}}
    records().add([Record(evil, graph, source=evil, renderer=evil, failure=evil, sentence=evil,
                          assets={evil: evil}, scores={evil: 1.0})])  # fmt: skip
    view = tab(records)
    shown = view.arrive(OWNER, Place(), *BLANK)
    opened = view.open_record(shown[view.place], pressing(record="1"))[view.record]
    assert "<img src=x" not in shown[view.grid] + opened


@pytest.mark.parametrize("sent", ["0", "999999", "9" * 40, "-1", "x", None, 7, {"a": 1}])
def test_unknown_records_are_told(shared: SharedStore, sent: Any) -> None:
    view = tab(shared)
    assert "There is no record" in view.open_record(Place(), pressing(record=sent))[view.record]
    assert "There is no record" in view.open_record(Place(), gr.EventData(None, sent))[view.record]


def test_stepping_goes_on_across_pages(shared: SharedStore) -> None:
    view = tab(shared)
    place = view.search(*BLANK)[view.place]
    opened = view._open(place, place.ids[-1])[view.place]
    after = view.open_after(opened, *BLANK)
    new = after[view.place]
    assert new.opened == place.ids[-1] - 1 and new.opened in new.ids
    back = view.open_before(new, *BLANK)[view.place]
    assert back.opened == place.ids[-1] and back.ids == place.ids
    first = view._open(place, place.ids[0])[view.place]
    assert set(view.open_before(first, *BLANK)) == {view.place}  # there is nothing before


# --- files over HTTP


@pytest.fixture(scope="module")
def client(shared: SharedStore) -> TestClient:
    return TestClient(Starlette(routes=routes(shared, Exports(shared))))


FILES = f"/{record_view.FILES}"


def test_thumbnails_are_small_made_once_and_kept_by_the_browser(
    client: TestClient, shared: SharedStore
) -> None:
    large = png_bytes(picture("a red star", 1, 64).resize((1024, 1024)))
    (number,) = shared().add([Record("a red star", {}, image=_sha(large))], {_sha(large): large})
    shared().delete([number], "test")
    got = client.get(f"{FILES}/thumb/{_sha(large)}.webp")
    assert (
        got.headers["content-type"] == "image/webp" and "immutable" in got.headers["cache-control"]
    )
    assert len(got.content) < 20_000
    (made,) = (shared.folder / "thumbnails").rglob(f"{_sha(large)}.webp")
    stamp = made.stat().st_mtime_ns
    assert client.get(f"{FILES}/thumb/{_sha(large)}.webp").content == got.content
    assert made.stat().st_mtime_ns == stamp


def _sha(data: bytes) -> str:
    from flowdesign.records import sha_of

    return sha_of(data)


def test_images_are_served_byte_for_byte(client: TestClient, shared: SharedStore) -> None:
    sha = shared().get(1).image
    path = shared().image_path(sha)
    assert path is not None
    assert client.get(f"{FILES}/image/{sha}.png").content == path.read_bytes()


def test_workflows_are_served_in_both_forms(client: TestClient, shared: SharedStore) -> None:
    record = shared().get(1)
    api = client.get(f"{FILES}/workflow/1.api.json").json()
    assert record.prompt in json.dumps(api)
    assert client.get(f"{FILES}/workflow/1.ui.json").json()["nodes"]


@pytest.mark.parametrize(
    "path",
    [
        "thumb/../../records.sqlite3.webp",
        "thumb/%2e%2e%2frecords.webp",
        "thumb/" + "0" * 64 + ".webp",
        "image/" + "g" * 64 + ".png",
        "workflow/999999.api.json",
        "workflow/99999999999999999999999.api.json",
        "workflow/1.exe.json",
        "export/..%2frecords.zip",
        "export/" + "A" * 22 + ".zip",
    ],
)
def test_addresses_of_nothing_give_404(client: TestClient, path: str) -> None:
    assert client.get(f"{FILES}/{path}").status_code == 404


def test_what_is_no_image_gives_no_thumbnail(tmp_path: Path) -> None:
    records = SharedStore(tmp_path)
    data = b"\x89PNG\r\n\x1a\n" + b"not really"
    records().add([Record("x", {}, image=_sha(data))], {_sha(data): data})
    client = TestClient(Starlette(routes=routes(records, Exports(records))))
    answer = client.get(f"{FILES}/thumb/{_sha(data)}.webp")
    assert answer.status_code == 404 and "cannot be read" in answer.json()["error"]


# --- choosing


def test_ticked_records_are_read_from_what_the_page_sends() -> None:
    assert selection.choose("ticked", "3,1,3", Filter()).ids == (3, 1)
    assert selection.choose("all", "3,1", Filter(text="x")) == selection.Selection(
        (), Filter(text="x")
    )


@pytest.mark.parametrize("sent", ["", None, "x,y", "-4", "1" * 30, ",,,", 5.5, ["1"]])
def test_nonsense_chooses_nothing(sent: Any) -> None:
    with pytest.raises(selection.NothingChosen, match="Tick some records"):
        selection.choose("ticked", sent, Filter())


def test_too_many_ticks_are_told() -> None:
    with pytest.raises(selection.NothingChosen, match="At most"):
        selection.choose("ticked", ",".join(map(str, range(6000))), Filter())


# --- deleting


def test_delete_asks_then_deletes_then_undoes(own: SharedStore) -> None:
    view = tab(own)
    actions = view.actions
    asked = actions.ask_delete(OWNER, "ticked", "1,2", *BLANK)
    assert "Delete 2 records?" in asked[actions.question]
    assert [asked[panel]["visible"] for panel in actions.panels] == [False, False, True]
    assert own().find().total == 21  # nothing has happened yet
    done = actions.delete_chosen(OWNER, "ticked", "1,2", *BLANK)
    assert "Deleted 2 records" in done[actions.said] and done[actions.undo]["visible"]
    assert own().find().total == 19
    assert own().find(Filter(deleted=True)).total == 2
    back = actions.bring_back(OWNER, done[actions.undo_token])
    assert "2 records brought back" in back[actions.said] and own().find().total == 21


def test_after_a_reload_the_last_deletion_can_still_be_undone(own: SharedStore) -> None:
    for ids in ("1,2", "3"):
        tab(own).actions.delete_chosen(OWNER, "ticked", ids, *BLANK)
    actions = tab(own).actions  # another page
    assert actions.offer_undo(OWNER, "") == {actions.said: gr.skip()}
    assert actions.offer_undo(VISITOR, "yes") == {actions.said: gr.skip()}
    for many in ("1 record", "2 records"):
        offered = actions.offer_undo(OWNER, "yes")
        assert f"Deleted last: {many}, by owner" in offered[actions.said]
        actions.bring_back(OWNER, offered[actions.undo_token])
    assert actions.offer_undo(OWNER, "yes") == {actions.said: gr.skip()}
    assert own().find().total == 21 and own().last_deletion() is None


def test_all_that_match_are_deleted_and_nothing_else(own: SharedStore) -> None:
    view = tab(own)
    view.actions.delete_chosen(OWNER, "all", "", *asking(view, source="playground"))
    left = {one.source for one in own().stream()}
    assert left == {"collect:toys", "import:old pictures"}


def test_many_records_are_deleted_in_the_background(
    own: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_actions, "MANY", 10)
    view = tab(own)
    view.actions.delete_chosen(OWNER, "all", "", *BLANK)
    assert "21 records deleted" in finish(view).said
    assert own().find().total == 0
    offered = view.actions.offer_undo(OWNER, "yes")
    view.actions.bring_back(OWNER, offered[view.actions.undo_token])
    assert own().find().total == 21


def test_nothing_ticked_and_unknown_records_are_told(own: SharedStore) -> None:
    actions = tab(own).actions
    assert "Tick some" in actions.ask_delete(OWNER, "ticked", "", *BLANK)[actions.said]
    told = actions.delete_chosen(OWNER, "ticked", "1,777", *BLANK)
    assert "Nothing was deleted" in told[actions.said] and own().find().total == 21
    assert "nothing to bring back" in actions.bring_back(OWNER, "made up")[actions.said]


# --- scoring again


def test_rescoring_runs_in_the_background_and_fills_in_scores(own: SharedStore) -> None:
    view = tab(own)
    names = ["scene_strict", "scene_soft", "sharpness", "made_up"]
    started = view.actions.rescore(OWNER, "all", "", names, *BLANK)
    assert "Scoring 21 records" in started[view.jobs.place] and started[view.jobs.timer].active
    job = finish(view)
    assert job.state == "done" and job.done == job.total == 21
    assert "18 records scored by scene_strict, scene_soft, sharpness" in job.said
    assert "3 records without a readable image left out" in job.said
    for record in own().stream():
        assert ("scene_strict" in record.scores) == bool(record.image)
    drawn = next(record for record in own().stream() if record.image)
    assert drawn.scores["scene_strict"] == 1.0  # the toys draw what the prompt asks for


def test_rescoring_can_be_stopped_and_keeps_what_is_done(
    own: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, reached, go_on = tab(own), threading.Event(), threading.Event()
    keep = data_work._keep

    def slow(*values: Any) -> None:
        keep(*values)
        reached.set()
        assert go_on.wait(20)

    monkeypatch.setattr(data_work, "_keep", slow)
    monkeypatch.setattr(data_work, "GROUP", 4)
    view.actions.rescore(OWNER, "all", "", ["scene_gist"], *BLANK)
    assert reached.wait(20)
    number = str(view.jobs.jobs.shown()[-1].number)
    shown = view.jobs.press(OWNER, pressing(job=number))
    assert "stopping" in shown[view.jobs.place]
    go_on.set()
    assert finish(view).state == "stopped"
    assert sum("scene_gist" in record.scores for record in own().stream()) == 4


def test_a_missing_scorer_says_what_is_missing(
    own: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ScorerMissing(f"'{name}' needs its weights. Put them in a folder.")

    monkeypatch.setattr(data_work, "load", missing)
    view = tab(own)
    view.actions.rescore(OWNER, "ticked", "1", ["pickscore"], *BLANK)
    job = finish(view)
    assert (job.state, job.said) == (
        "failed",
        "'pickscore' needs its weights. Put them in a folder.",
    )


def test_no_scorer_chosen_is_told(own: SharedStore) -> None:
    actions = tab(own).actions
    assert "at least one scorer" in actions.rescore(OWNER, "all", "", [], *BLANK)[actions.said]
    assert "at least one scorer" in actions.rescore(OWNER, "all", "", ["x"], *BLANK)[actions.said]


# --- exporting


def test_an_export_is_a_zip_with_card_and_images_that_comes_back_whole(
    own: SharedStore, tmp_path: Path
) -> None:
    view = tab(own)
    view.actions.start_export("all", "", "jsonl", True, *asking(view, source="playground"))
    job = finish(view)
    assert job.link is not None and "7 records, 6 images" in job.said
    client = TestClient(Starlette(routes=routes(own, Exports(own))))
    got = client.get(f"/{job.link[0]}")
    assert 'filename="flowdesign-records.zip"' in got.headers["content-disposition"]
    file = tmp_path / "back.zip"
    file.write_bytes(got.content)
    with zipfile.ZipFile(file) as archive:
        assert "README.md" in archive.namelist()
    with Store.open(tmp_path / "other") as other:
        exchange.import_records(other, file)
        wanted = [one for one in own().stream() if one.source == "playground"]
        came = {(one.prompt, one.seed, one.image) for one in other.stream()}
        assert came == {(one.prompt, one.seed, one.image) for one in wanted}


def test_ticked_records_alone_are_exported_and_old_files_go(own: SharedStore) -> None:
    view = tab(own)
    for _ in range(5):
        view.actions.start_export("ticked", "2,5", "csv", False, *BLANK)
        assert "2 records" in finish(view).said
    assert len(list((own.folder / "exports").glob("*.zip"))) == 3


def test_an_unknown_format_is_told(own: SharedStore) -> None:
    view = tab(own)
    view.actions.start_export("all", "", "xlsx", True, *BLANK)
    job = finish(view)
    assert job.state == "failed" and "xlsx" in job.said and "fd-is-bad" in jobs_view.bars([job])


# --- importing


def history_zip(names: list[str]) -> bytes:
    workflow, _ = toy_workflow(3)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number, name in enumerate(names):
            png = png_bytes(picture("a red star", number), workflow, f"a red star {number}")
            archive.writestr(name, png)
    return data.getvalue()


def bring(view: Data, *files: Path, name: str = "mine") -> Any:
    return view.importing.bring(OWNER, [str(file) for file in files], name)


def test_pictures_and_a_zip_of_them_become_records(tmp_path: Path) -> None:
    records = SharedStore(tmp_path / "records")
    view = tab(records)
    names = ["output/a.png", "output/b.PNG", "__MACOSX/output/._a.png", "notes.txt"]
    (tmp_path / "year.zip").write_bytes(history_zip(names))
    workflow, _ = toy_workflow(4)
    (tmp_path / "one.png").write_bytes(png_bytes(picture("a blue heart", 1), workflow, "a heart"))
    (tmp_path / "bare.png").write_bytes(png_bytes(picture("a blue heart", 2)))
    started = bring(view, tmp_path / "year.zip", tmp_path / "one.png", tmp_path / "bare.png")
    assert started[view.importing.files] is None
    job = finish(view)
    assert job.state == "done", job.said
    assert "1 record new, 1 skipped: carries no workflow; 2 records new" in job.said
    assert {one.source for one in records().stream()} == {"import:mine"}
    bring(view, tmp_path / "year.zip")
    assert "0 records new, 2 were here already" in finish(view).said


def test_a_folder_of_this_machine_is_read_where_it_is(tmp_path: Path) -> None:
    records = SharedStore(tmp_path / "records")
    view = tab(records)
    workflow, _ = toy_workflow(4)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "one.png").write_bytes(
        png_bytes(picture("a blue heart", 1), workflow, "a heart")
    )
    view.importing.bring_folder(OWNER, str(tmp_path / "output"), "")
    assert "1 record new" in finish(view).said
    assert records().get(1).source == "import:output"


@pytest.mark.parametrize("folder", ["", "   ", "/no/such/folder", "a\0b", "x" * 5000, None])
def test_folders_that_are_none_are_told(shared: SharedStore, folder: Any) -> None:
    view = tab(shared)
    told = view.importing.bring_folder(OWNER, folder, "")
    assert "There is no folder" in told[view.importing.said]


@pytest.mark.parametrize(
    ("role", "space", "offered"),
    [
        ("owner", False, True),
        ("admin", False, True),
        ("admin", True, False),
        ("writer", True, False),
    ],
)
def test_folders_are_offered_to_those_whom_the_gate_lets_read_them(
    shared: SharedStore, role: Any, space: bool, offered: bool
) -> None:
    importing = tab(shared, space).importing
    assert importing.show(Person(role, "ann"))[importing.local]["visible"] is offered


def test_tables_come_back_and_a_huge_cell_is_told(own: SharedStore, tmp_path: Path) -> None:
    exchange.export(own(), tmp_path / "out", "csv", images=False)
    table = tmp_path / "out" / "records" / "train.csv"
    records = SharedStore(tmp_path / "other")
    view = tab(records)
    bring(view, table)
    assert "new" in finish(view).said and records().find().total > 0
    (tmp_path / "huge.csv").write_text("prompt,workflow\n" + "x" * (17 * 2**20) + ",{}\n")
    bring(view, tmp_path / "huge.csv")
    job = finish(view)
    assert job.state == "failed" and "huge.csv" in job.said and "Traceback" not in job.said


def bomb() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("records/train.jsonl", b"0" * (200 * 2**20))
    return data.getvalue()


def cut_short() -> bytes:
    return history_zip(["a.png"])[:200]


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("bomb.zip", bomb, "would grow"),
        ("up.zip", lambda: history_zip(["../../evil.png"]), "outside its own folder"),
        ("root.zip", lambda: history_zip(["/etc/evil.png"]), "outside its own folder"),
        ("drive.zip", lambda: history_zip(["C:\\evil.png"]), "outside its own folder"),
        ("cut.zip", cut_short, "not a zip file"),
        ("text.zip", lambda: b"hello", "not a zip file"),
        ("notes.zip", lambda: history_zip(["notes.txt"]), "neither PNG files nor an export"),
        ("film.mp4", lambda: b"", "is none of"),
    ],
)
def test_bad_uploads_are_told_and_nothing_is_unpacked(
    own: SharedStore, tmp_path: Path, name: str, make: Any, words: str
) -> None:
    file = tmp_path / "in" / name
    file.parent.mkdir()
    file.write_bytes(make())
    view = tab(own)
    told = bring(view, file)
    assert words in told[view.importing.said]
    assert not view.jobs.jobs.shown() and own().find().total == 21
    assert not list(tmp_path.rglob("evil*"))


def test_pictures_that_are_none_are_counted(own: SharedStore, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a not a PNG")
    (tmp_path / "b.png").write_bytes(b"")
    view = tab(own)
    bring(view, tmp_path / "a.png", tmp_path / "b.png")
    job = finish(view)
    assert job.state == "done" and "2 skipped: no PNG, or a damaged one" in job.said


def test_no_files_is_told(own: SharedStore) -> None:
    view = tab(own)
    assert "Drop some files" in view.importing.bring(OWNER, None, "")[view.importing.said]


def test_names_of_imports_are_one_short_line() -> None:
    assert uploads.clean_name(" my\n\0year ") == "myyear"
    assert len(uploads.clean_name("x" * 500)) == uploads.MAX_NAME
    assert data_import.clean_stem(Path("\n.csv")) == "upload"


# --- weights and votes


def test_votes_become_scores_that_can_be_sorted_by(own: SharedStore) -> None:
    store, view = own(), tab(own)
    view.weights.fit_votes(OWNER)
    assert finish(view).said == "nobody has voted yet"
    prompt = next(one.prompt for one in store.prompts(least=2))
    better, worse, *_ = store.find(Filter(prompt=prompt, has_image=True)).rows
    for number in range(5):
        store.vote(Vote(better.id or 0, worse.id or 0, "left", "ann", f"token {number}"))
    view.weights.fit_votes(OWNER)
    assert finish(view).said == "2 records scored by their votes"
    found = view.search(*asking(view, scorer=SCORER, order="best"))[view.place]
    assert found.ids == (better.id, worse.id)
    assert store.get(better.id or 0).scores[SCORER] > 0 > store.get(worse.id or 0).scores[SCORER]


def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reference:
    made = Reference(
        "toys", {"scene_soft": Standard(0.5, 0.25, 9), "sharpness": Standard(0.4, 0.1, 9)}
    )
    monkeypatch.setattr("flowdesign.ui.data_weights.read_reference", lambda: made)
    return made


def test_weighing_again_changes_the_combined_score(
    own: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference(tmp_path, monkeypatch)
    view = tab(own)
    weights = [2.0 if name == "scene_soft" else 0 for name in view.weights.numbers]
    view.weights.weigh(OWNER, *weights)
    assert "scene_soft 2" in finish(view).said
    record = own().get(1)
    assert record.combined == pytest.approx(2 * (record.scores["scene_soft"] - 0.5) / 0.25)
    shown = view.weights.show(OWNER)
    assert shown[view.weights.numbers["scene_soft"]] == 2.0
    best = view.search(*asking(view, order="best"))[view.place]
    scores = [own().get(number).combined or 0.0 for number in best.ids]
    assert scores == sorted(scores, reverse=True) and len(scores) == 18


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "at least one scorer"),
        ({"scene_strict": 1.0}, "held out"),
        ({"pickscore": 1.0}, "pickscore"),
        ({"scene_soft": float("inf")}, "finite"),
    ],
)
def test_bad_weights_are_told(
    own: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, words: str
) -> None:
    reference(tmp_path, monkeypatch)
    view = tab(own)
    told = view.weights.weigh(OWNER, *(given.get(name) for name in view.weights.numbers))
    assert words in told[view.weights.said]


# --- charts


def test_charts_show_spread_and_components(shared: SharedStore) -> None:
    view = tab(shared)
    shown = view.charts.show("checkpoint", "scene_soft", *BLANK)
    spread, helps = shown[view.charts.spread], shown[view.charts.helps]
    assert spread.count("<figure") == 2 and "scene_soft" in spread
    for part in ("all prompts", "counting", "mini_flat", " ± ", "<td>n "):
        assert part in helps, part
    assert view.charts.follow("browse", "checkpoint", "scene_soft", *BLANK)[view.charts.spread]
    assert (
        "fd-panel" in view.charts.follow("charts", "lora", "sharpness", *BLANK)[view.charts.helps]
    )


def test_many_records_are_not_drawn_unasked(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_charts, "MANY", 50)
    view = tab(shared)
    waits = view.charts.follow("charts", "lora", "sharpness", *BLANK)
    assert "press Draw" in waits[view.charts.helps] and "120 records" in waits[view.charts.helps]
    assert "fd-panel" in view.charts.show("lora", "sharpness", *BLANK)[view.charts.helps]


def test_the_figures_of_a_panel_are_the_means_of_the_records(shared: SharedStore) -> None:
    from statistics import fmean, stdev

    view = tab(shared)
    helps = view.charts.show("checkpoint", "scene_soft", *BLANK)[view.charts.helps]
    rows = shared().by_component("checkpoint", "scene_soft")
    flat = next(row for row in rows if row.value == "mini_flat" and row.category is None)
    everyone = [
        one.scores["scene_soft"] for one in shared().stream()
        if "scene_soft" in one.scores and "mini_flat" in json.dumps(one.workflow)
    ]  # fmt: skip
    assert flat.n == len(everyone) and flat.mean == pytest.approx(fmean(everyone))
    assert flat.se == pytest.approx(stdev(everyone) / len(everyone) ** 0.5)
    assert (
        f"{flat.mean:.3f} ± {flat.se:.3f}" in helps or f"{flat.mean:.2f} ± {flat.se:.2f}" in helps
    )


def test_absurd_charts_are_told(shared: SharedStore) -> None:
    view = tab(shared)
    assert "Unknown component" in view.charts.show("colour", "sharpness", *BLANK)[view.charts.helps]
    assert "no scores" in view.charts.show("lora", None, *BLANK)[view.charts.helps]
    nothing = view.charts.show("lora", "pickscore", *BLANK)
    assert "No record" in nothing[view.charts.helps]


# --- who may


def test_whoever_may_not_sees_the_buttons_switched_off(shared: SharedStore) -> None:
    view = tab(shared, space=True)
    shown = view.arrive(VISITOR, Place(), *BLANK)
    assert not shown[view.actions.delete]["interactive"]
    assert not shown[view.weights.apply]["interactive"]
    assert not shown[view.importing.local]["visible"]
    assert view.arrive(OWNER, Place(), *BLANK)[view.actions.delete]["interactive"]


def test_every_handler_is_declared_and_those_that_write_name_their_action(
    shared: SharedStore,
) -> None:
    gate = Gate(AccessConfig(space=True))
    with gr.Blocks() as app, gr.Tabs(), gr.Tab("Data") as place:
        Data(shared, gate, place, Jobs(), Exports(shared), NO_CRITICS)
    assert gate.undeclared(app) == []
    kinds = {handler.__name__: kind for handler, kind in gate.declared.items()}
    writing = {name: kind for name, kind in kinds.items() if kind != "read"}
    assert writing == {
        "ask_delete": "delete", "delete_chosen": "delete", "bring_back": "delete",
        "rescore": "rescore", "weigh": "rescore", "fit_votes": "rescore", "bring": "import", "bring_folder": "folder",
    }  # fmt: skip


def test_a_visitor_on_a_space_gets_to_no_handler_that_writes(own: SharedStore) -> None:
    gate = Gate(AccessConfig(space=True))
    with gr.Blocks(), gr.Tabs(), gr.Tab("Data") as place:
        Data(own, gate, place, Jobs(), Exports(own), NO_CRITICS)
    request: Any = SimpleNamespace(headers={}, client=None, session_hash="p")
    for handler, kind in gate.declared.items():
        if kind != "read":
            with pytest.raises(gr.Error, match="Only people named|who sits at it"):
                handler(request, None)
    assert own().find().total == 21


def test_stopping_a_job_needs_the_right_to_start_it(own: SharedStore) -> None:
    view, go_on = tab(own, space=True), threading.Event()
    view.jobs.jobs.start("Scoring", lambda job: str(go_on.wait(20)), "rescore")
    number = str(view.jobs.jobs.shown()[-1].number)
    with pytest.raises(gr.Error, match="Only people named"):
        view.jobs.press(VISITOR, pressing(job=number))
    assert not view.jobs.jobs.shown()[-1].stopping
    view.jobs.press(OWNER, pressing(job=number))
    go_on.set()
    finish(view)
