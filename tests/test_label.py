"""The Label tab over HTTP, as any program can call it: blind until the vote, and who may vote."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_toys import toy_studio
from votes_toys import SECRET, fill, opened, toy_workflows

from flowdesign.access import AccessConfig
from flowdesign.records import Record, Store, sha_of
from flowdesign.ui import label_view
from flowdesign.ui.gate import Gate
from flowdesign.ui.shared import SharedStore
from flowdesign.workflow import describe

ME, OTHER = "a secret of this browser", "a secret of another one"
Call = Callable[..., Any]


class Refused(Exception):
    """The app answered with an error."""


def call(address: str, name: str, *data: Any, **headers: str) -> Any:
    """Call an endpoint by HTTP. Raises Refused with the message."""
    request = urllib.request.Request(
        f"{address}/gradio_api/run/{name}",
        json.dumps({"data": data, "session_hash": "test"}).encode(),
        {"Content-Type": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["data"][0]
    except urllib.error.HTTPError as error:
        raise Refused(error.read().decode()) from None


def fetch(address: str, path: str) -> tuple[int, bytes, dict[str, str]]:
    """GET something: status, body and headers."""
    try:
        with urllib.request.urlopen(f"{address}/{path}", timeout=60) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), {}


class Served:
    """A served app and its records."""

    def __init__(self, serve: Callable[..., str], studio: Any, folder: Path, **access: Any) -> None:
        self.records = SharedStore(folder)
        gate = Gate(AccessConfig(**access))
        self.address = serve(studio, records=self.records, gate=gate)

    @property
    def store(self) -> Store:
        return self.records()

    def call(self, name: str, *data: Any, **headers: str) -> Any:
        return call(self.address, name, *data, **headers)

    def deal(self, kind: str = "pair", browser: str = ME) -> list[dict[str, Any]]:
        return list(self.call("label_deal", kind, browser, [])["questions"])


@pytest.fixture(scope="module")
def app(
    serve: Callable[..., str], served_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    found = Served(serve, toy_studio(served_folder), tmp_path_factory.mktemp("label"))
    fill(found.store, [f"a red star number {n}" for n in range(12)], 5)
    return found


# --- blind


def test_before_the_vote_nothing_tells_of_records_or_workflows(app: Served) -> None:
    """Questions, addresses, images and their headers are searched for all that would give it away."""
    for question in app.deal():
        assert set(question) == {"token", "kind", "prompt", "images"}
        secrets = tells(app.store, question["prompt"])
        assert not [word for word in secrets if word in json.dumps(question)]
        for address in question["images"]:
            assert address.startswith(f"gradio_api/flowdesign/label/{question['token']}/")
            status, data, headers = fetch(app.address, address)
            assert status == 200
            assert opened(data).info == {}
            assert SECRET.encode() not in data
            assert sha_of(data) not in secrets
            told = json.dumps({k: v for k, v in headers.items() if k.lower() != "content-length"})
            assert not [word for word in secrets if word in told]
            assert headers["cache-control"].startswith("private")


def tells(store: Store, prompt: str) -> list[str]:
    """Texts that lead to the records of a prompt, or say how they were made."""
    from flowdesign.records import Filter

    rows = store.find(Filter(prompt=prompt), limit=100).rows
    told = [row.image for row in rows] + [describe(row.workflow) for row in rows]
    return [*told, "mini_", "KSampler", "sampler_name", str(store.folder)]


def test_the_workflow_cannot_be_had_before_the_vote_and_is_shown_after_it(app: Served) -> None:
    first, second = app.deal()
    drawing = first["images"][0].removesuffix(".png") + ".html"
    assert fetch(app.address, drawing)[0] == 404
    reply = app.call("label_answer", first["token"], "left", 900, ME, [second["token"]])
    (vote,) = [one for one in app.store.votes() if one.token == first["token"]]
    for record in (vote.left, vote.right):
        assert describe(app.store.get(record).workflow).split(",")[0] in reply["reveal"]
    status, body, _ = fetch(app.address, drawing)
    assert status == 200
    assert b"<svg" in body and b"KSampler" in body
    other = second["images"][0].removesuffix(".png") + ".html"
    assert fetch(app.address, other)[0] == 404
    assert reply["questions"][0]["token"] == second["token"]


def test_a_skip_reveals_nothing(app: Served) -> None:
    question = app.deal()[0]
    reply = app.call("label_answer", question["token"], "skip", 900, ME, [])
    assert reply["reveal"] == ""
    assert fetch(app.address, question["images"][0].removesuffix(".png") + ".html")[0] == 404


def test_guessed_tokens_and_sides_show_nothing(app: Served) -> None:
    token = app.deal()[0]["token"]
    for path in (
        "label/guess/0.png",
        f"label/{token}/2.png",
        f"label/{token}/-1.png",
        "label/../0.png",
    ):
        assert fetch(app.address, f"gradio_api/flowdesign/{path}")[0] in (400, 403, 404), path


# --- answers


def test_an_answer_counts_once(app: Served) -> None:
    question = app.deal()[0]
    before = app.store.count_votes()
    first = app.call("label_answer", question["token"], "left", 900, ME, [])
    assert (first["answer"], first["again"]) == ("left", False)
    second = app.call("label_answer", question["token"], "right", 900, ME, [])
    assert (second["answer"], second["again"]) == ("left", True)
    assert app.store.count_votes() == before + 1
    assert second["standing"]["votes"] == first["standing"]["votes"]


def test_undo_asks_again(app: Served) -> None:
    question = app.deal()[0]
    app.call("label_answer", question["token"], "left", 900, ME, [])
    before = app.store.count_votes()
    reply = app.call("label_undo", question["token"], ME, [])
    assert app.store.count_votes() == before - 1
    again = reply["questions"][0]
    assert again["token"] != question["token"]
    assert again["prompt"] == question["prompt"]
    assert reply["kind"] == "pair"


def test_ratings_are_stored(app: Served) -> None:
    question = app.deal("rating")[0]
    assert len(question["images"]) == 1
    reply = app.call("label_answer", question["token"], "5", 900, ME, [])
    assert "5 of 5" in reply["reveal"]
    assert [one.stars for one in app.store.ratings() if one.token == question["token"]] == [5]


BAD = {
    "kind": ("label_deal", ["both", ME, []], "'pair' or 'rating'"),
    "browser": ("label_deal", ["pair", "short", []], "16 characters"),
    "no browser": ("label_deal", ["pair", None, []], "16 characters"),
    "token": ("label_answer", ["guess", "left", 5, ME, []], "too old"),
    "token of no kind": ("label_answer", [{"a": 1}, "left", 5, ME, []], "too old"),
    "undo": ("label_undo", ["guess", ME, []], "too old"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_page_sends_is_told(app: Served, case: str) -> None:
    name, data, words = BAD[case]
    with pytest.raises(Refused, match=words):
        app.call(name, *data)


def test_bad_answers_store_nothing_and_leave_the_question_open(app: Served) -> None:
    question = app.deal()[0]
    before = app.store.count_votes()
    for answer, time in (("both", 5), (7, 5), ("left", "soon"), ("left", -1), (None, None)):
        with pytest.raises(Refused, match="not"):
            app.call("label_answer", question["token"], answer, time, ME, [])
    assert app.store.count_votes() == before
    held = [question["token"], 5, None, "x" * 10_000]
    assert app.call("label_deal", "pair", ME, held)["questions"][0]["token"] == question["token"]


def test_another_browser_cannot_use_or_undo_my_questions(app: Served) -> None:
    question = app.deal()[0]
    with pytest.raises(Refused):
        app.call("label_answer", question["token"], "left", 5, OTHER, [])
    app.call("label_answer", question["token"], "left", 5, ME, [])
    with pytest.raises(Refused):
        app.call("label_undo", question["token"], OTHER, [])
    raters = {vote.rater for vote in app.store.votes()}
    assert not [rater for rater in raters if ME in rater]  # the secret itself is nowhere


# --- who may vote


@pytest.fixture
def space(serve: Callable[..., str], served_folder: Path, tmp_path: Path) -> Iterator[Call]:
    """Make an app as on a public Space; `access` are the fields of AccessConfig."""

    def make(**access: Any) -> Served:
        found = Served(serve, toy_studio(served_folder), tmp_path / "space", space=True, **access)
        fill(found.store, ["a red star"], 8)
        return found

    return make  # type: ignore[return-value]


def test_visitors_of_a_space_vote_only_where_voting_is_open(space: Call) -> None:
    app = space(voting="writers", admin_token="a token of the owner's")
    reply = app.call("label_deal", "pair", ME, [])
    assert reply["questions"] == []
    assert "may vote here" in reply["notice"]
    owner = {"X_FlowDesign_Token": "a token of the owner's"}
    question = app.call("label_deal", "pair", ME, [], **owner)["questions"][0]
    for name, data in (
        ("label_answer", [question["token"], "left", 5, ME, []]),
        ("label_undo", [question["token"], ME, []]),
    ):
        with pytest.raises(Refused, match="may vote here"):
            app.call(name, *data)
    assert app.store.count_votes() == 0
    app.call("label_answer", question["token"], "left", 5, ME, [], **owner)
    assert [vote.rater.partition(":")[0] for vote in app.store.votes()] == ["admin"]


def test_open_voting_has_a_limit_and_the_vote_can_be_sent_again(space: Call) -> None:
    app = space(voting="open", votes_per_minute=3)
    question = app.deal()[0]
    for _ in range(3):
        reply = app.call("label_answer", question["token"], "left", 5, ME, [])
        question = reply["questions"][0]
    with pytest.raises(Refused, match="At most 3 votes a minute"):
        app.call("label_answer", question["token"], "left", 5, ME, [])
    assert app.store.count_votes() == 3
    assert app.call("label_deal", "pair", ME, [question["token"]])["questions"][0] == question
    assert {vote.rater.partition(":")[0] for vote in app.store.votes()} == {"anon"}


def test_voting_can_be_off(space: Call) -> None:
    app = space(voting="off")
    assert "switched off" in app.call("label_deal", "pair", ME, [])["notice"]


# --- nothing to ask


def test_an_empty_store_says_what_to_do(
    serve: Callable[..., str], served_folder: Path, tmp_path: Path
) -> None:
    app = Served(serve, toy_studio(served_folder), tmp_path)
    reply = app.call("label_deal", "pair", ME, [])
    assert reply["questions"] == []
    assert "flowdesign collect" in reply["notice"] and "Import" in reply["notice"]


def test_images_without_pairs_and_a_finished_rater_are_told_so(
    serve: Callable[..., str], served_folder: Path, tmp_path: Path
) -> None:
    app = Served(serve, toy_studio(served_folder), tmp_path)
    fill(app.store, ["one", "two"], 1)
    assert "no two different ones" in app.call("label_deal", "pair", ME, [])["notice"]
    for question in app.deal("rating"):
        reply = app.call("label_answer", question["token"], "3", 5, ME, [])
    assert "All done" in reply["notice"]


def test_what_is_shown_is_escaped(tmp_path: Path) -> None:
    from flowdesign.votes import Answered, Question, Ticket

    bad = "<img src=x onerror=alert(1)>"
    with Store.open(tmp_path) as store:
        workflow = {"1": {"class_type": bad, "inputs": {"text": bad}}}
        ids = store.add([Record(bad, workflow, seed=1), Record(bad, toy_workflows(1)[0], seed=2)])
        records = [store.get(number) for number in ids]
    asked = Question("ann", "pair", bad, tuple(ids), "uncertain")
    shown = label_view.reveal(Answered(Ticket("t", asked, 0.0), "left", False), records, [bad, bad])
    shown += label_view.workflow(records[0], 0) + label_view.refused(bad)
    assert "<img src=x" not in shown
    assert "&lt;img src=x" in shown
