"""Every endpoint of the served app, called without a login: what writes refuses, what reads does not.

A handler that writes and is not declared so fails one of these tests: it is undeclared, or it is
declared to read and leaves a trace.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from conftest import free_port
from data_toys import toy_records
from fake_space import Caller, empty_values, enter_space, handlers, likely_values, login
from studio_toys import toy_studio
from train_toys import launcher

from flowdesign.access import AccessConfig, Person
from flowdesign.catalog import ROOT
from flowdesign.designs import restore
from flowdesign.records import Rating, Store, Vote
from flowdesign.request import BadRequest, Request
from flowdesign.studio import Rendered
from flowdesign.ui import Page, build_app, launch
from flowdesign.ui.gate import Gate
from flowdesign.ui.shared import SharedStore
from flowdesign.ui.train_launch import Launcher

# Gradio looks for a package that only Spaces have, to reload changed files there.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*hot-reloading in Spaces")
TOKEN = "a-token-that-nobody-guesses"
PUBLIC = AccessConfig(frozenset({"alice"}), TOKEN, voting="off", space=True, login=True)
REFUSALS = ("Only people named by the owner", "Voting is switched off", "only for who sits at it")


@pytest.fixture(scope="module")
def space() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        enter_space(patch)
        yield


@dataclass(frozen=True)
class Public:
    """The whole page, served as on a public Space, with records and votes that may get lost."""

    app: Page
    gate: Gate
    address: str
    records: SharedStore
    launcher: Launcher  # of toy runs

    def declared(self, *, writing: bool) -> list[Any]:
        """The handlers that write, or those that read."""
        return [fn for fn in handlers(self.app) if (self.gate.declared[fn.fn] != "read") == writing]

    def traces(self) -> dict[str, Any]:
        """All that lasts: the records as they are, their images, and the files of the runs.

        Thumbnails and exports are copies for reading, which come and go.
        """
        with sqlite3.connect(self.records.folder / "records.sqlite3") as connection:
            content = "\n".join(connection.iterdump())
        images = sorted(path.name for path in (self.records.folder / "images").rglob("*"))
        roots = (ROOT / "checkpoints", self.launcher.book.root)
        runs = sorted(str(path) for root in roots for path in root.glob("*/*"))
        return {"records": content, "images": images, "runs": runs}


@pytest.fixture(scope="module")
def public(
    space: None, served_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Public]:
    opening: Future[Any] = Future()
    opening.set_result(toy_studio(served_folder))
    gate, records = Gate(PUBLIC), SharedStore(tmp_path_factory.mktemp("records"))
    fill_store(records())
    toys = launcher(tmp_path_factory.mktemp("runs"))
    app = build_app(opening, gate=gate, records=records, launcher=toys)
    yield Public(app, gate, serve_app(app), records, toys)
    app.close(verbose=False)
    records.close()


def serve_app(app: Page) -> str:
    port = free_port()
    app.api_open = True  # one request is one call, also for handlers that the page queues
    options: dict[str, Any] = {"prevent_thread_lock": True, "quiet": True, "ssr_mode": False}
    launch(app, server_name="127.0.0.1", server_port=port, **options)
    return f"http://127.0.0.1:{port}"


def fill_store(store: Store) -> None:
    """Some records with images, one of them deleted, a vote and a rating."""
    made = list(toy_records(12))
    ids = store.add([one for one, _ in made], {one.image: png for one, png in made if png})
    twins = [number for number in ids if store.get(number).prompt == made[0][0].prompt]
    store.vote(Vote(twins[0], twins[1], "left", "hf:alice", "a vote"))
    store.rate(Rating(ids[1], 4, "hf:alice", "a rating"))
    store.delete([ids[2]], "alice")


def test_every_handler_is_declared(public: Public) -> None:
    missing = public.gate.undeclared(public.app)
    assert missing == [], "declare it where it is connected: see flowdesign/ui/gate.py"


def test_the_page_has_handlers_that_write(public: Public) -> None:
    """Otherwise the next test would say nothing."""
    kinds = {public.gate.declared[fn.fn] for fn in public.declared(writing=True)}
    assert {"vote", "import", "folder", "rescore", "delete", "run"} <= kinds


@pytest.mark.parametrize(
    ("stranger", "options"),
    [
        ("nobody", {}),
        ("a wrong token", {"headers": {"x-flowdesign-token": TOKEN[:-1]}}),
        ("who is not named", {"cookies": login("mallory")}),
        ("a forged cookie", {"cookies": login("alice", secret="guessed")}),
        ("an old cookie", {"cookies": login("alice", expires=-1)}),
        (
            "another site",
            {"cookies": login("alice"), "headers": {"origin": "https://evil.example"}},
        ),
    ],
)
def test_every_handler_that_writes_refuses(
    public: Public, stranger: str, options: dict[str, Any]
) -> None:
    caller, before = Caller(public.address, **options), public.traces()
    for fn in public.declared(writing=True):
        for values in (empty_values(fn), likely_values(fn)):
            answer = caller.post(fn, values)
            assert is_refusal(answer), f"{fn.name} let {stranger} in: {answer}"
    assert public.traces() == before


def test_no_handler_that_reads_leaves_a_trace(public: Public) -> None:
    caller, before = Caller(public.address), public.traces()
    for fn in public.declared(writing=False):
        for values in (empty_values(fn), likely_values(fn)):
            caller.post(fn, values)
    time.sleep(1)  # for what a handler has started in the background
    assert public.traces() == before


def test_no_route_of_our_own_writes(public: Public) -> None:
    ours = [route for route in public.app.app.routes if "flowdesign" in getattr(route, "path", "")]
    assert ours
    for route in ours:
        assert getattr(route, "methods", set()) <= {"GET", "HEAD"}, route


def test_no_component_has_functions_of_its_own(public: Public) -> None:
    """Such functions are endpoints too, which the gate does not see."""
    assert [b for b in public.app.blocks.values() if getattr(b, "server_fns", None)] == []


def test_the_same_calls_get_through_with_a_login(public: Public) -> None:
    """So it was the login that was missing, not something else."""
    caller = Caller(public.address, cookies=login("alice"))
    for fn in public.declared(writing=True):
        answer = caller.post(fn, empty_values(fn))
        of_space = public.gate.declared[fn.fn] in ("vote", "folder")  # off, and for nobody there
        assert is_refusal(answer) == of_space, f"{fn.name}: {answer}"


def is_refusal(answer: dict[str, Any]) -> bool:
    return any(words in str(answer.get("error")) for words in REFUSALS)


# --- the mechanism itself, on a page with a handler for each action


class Vault:
    """A page whose handlers keep what they are given."""

    def __init__(self, gate: Gate) -> None:
        self.kept: list[str] = []
        with Page() as self.app:
            self.text = gr.Textbox()
            for action in ("vote", "run", "keep", "import", "rescore", "delete"):
                button = gr.Button(action)
                button.click(gate.writes(action, self.keep), self.text, self.text)
                button.click(
                    gate.writes(action, self.keep_slowly), self.text, self.text, queue=False
                )
            gr.api(gate.writes("delete", self.wipe), api_name="wipe")
            gr.Button().click(gate.reads_for(self.tell), None, self.text)
            gate.build_row(self.app)

    def keep(self, person: Person, text: str) -> str:
        self.kept.append(f"{person.label}: {text}")
        return text

    def keep_slowly(self, person: Person, text: str) -> Iterator[str]:
        yield self.keep(person, text)

    def wipe(self, person: Person, text: str) -> str:
        return self.keep(person, text)

    def tell(self, person: Person) -> str:
        return person.label


@pytest.fixture
def vault(space: None) -> Iterator[tuple[Vault, Gate, str]]:
    gate = Gate(PUBLIC)
    vault = Vault(gate)
    yield vault, gate, serve_app(vault.app)
    vault.app.close(verbose=False)


def writing(vault: Vault, gate: Gate) -> list[Any]:
    return [fn for fn in handlers(vault.app) if gate.declared[fn.fn] != "read"]


def test_without_login_nothing_is_kept(vault: tuple[Vault, Gate, str]) -> None:
    page, gate, address = vault
    found = writing(page, gate)
    assert len(found) == 13
    for number, fn in enumerate(found):
        answer = Caller(address).post(fn, ["mine"])
        assert "error" in answer and "data" not in answer
        queued = Caller(address).queue(fn, ["mine"], f"page {number}") if fn.queue else {}
        assert not fn.queue or is_refusal(queued)
    assert Caller(address).client.post("/call/wipe", json={"data": ["mine"]}).is_success
    assert page.kept == []


@pytest.mark.parametrize(
    ("options", "who"),
    [
        ({"cookies": login("alice")}, "alice"),
        ({"headers": {"x-flowdesign-token": TOKEN}}, "admin"),
        ({"headers": {"X-FlowDesign-Token": TOKEN}, "cookies": login("mallory")}, "mallory"),
    ],
)
def test_who_is_named_or_has_the_token_gets_through(
    vault: tuple[Vault, Gate, str], options: dict[str, Any], who: str
) -> None:
    page, gate, address = vault
    found = [fn for fn in writing(page, gate) if gate.declared[fn.fn] != "vote"]  # it is off
    for number, fn in enumerate(found):
        if fn.queue:
            Caller(address, **options).queue(fn, ["mine"], f"page {number}")
        else:
            assert "error" not in Caller(address, **options).post(fn, ["mine"])
    assert page.kept == [f"{who}: mine"] * len(found)


def test_the_token_entered_on_a_page_counts_for_that_page(vault: tuple[Vault, Gate, str]) -> None:
    page, gate, address = vault
    (enter,) = (fn for fn in handlers(page.app) if fn.name == "try_token")
    (tell,) = (fn for fn in handlers(page.app) if fn.name == "tell")
    caller = Caller(address)
    assert "Wrong token" in caller.post(enter, ["wrong"], "mine")["data"][1]
    assert caller.post(tell, [], "mine")["data"] == ["visitor"]
    answer = caller.post(enter, [TOKEN], "mine")["data"]
    assert answer[0]["value"] == "" and TOKEN not in str(answer)
    assert caller.post(tell, [], "mine")["data"] == ["admin"]
    assert caller.post(tell, [], "another")["data"] == ["visitor"]


def test_a_profile_that_a_client_sends_is_not_believed(vault: tuple[Vault, Gate, str]) -> None:
    page, gate, address = vault
    for fn in writing(page, gate):
        extra = [{"preferred_username": "alice", "name": "alice", "profile": "", "picture": ""}]
        assert "error" in Caller(address).post(fn, [*extra, "mine"])
        assert "error" in Caller(address).post(fn, ["mine", *extra])
    assert page.kept == []


# --- the Playground is open to everyone, and writes in its own folder only


def test_a_workflow_cannot_write_elsewhere(tmp_path: Path) -> None:
    studio = toy_studio(tmp_path / "inside")
    events = studio.design(Request("a red star", 1))
    (made,) = (event.design for event in events if isinstance(event, Rendered))
    for name, evil in [("filename_prefix", "../../escaped"), ("ckpt_name", "../../../etc/passwd")]:
        workflow = json.loads(json.dumps(made.workflow))
        nodes = [node["inputs"] for node in workflow.values() if name in node["inputs"]]
        assert nodes
        for inputs in nodes:
            inputs[name] = evil
        (tmp_path / "evil.json").write_text(json.dumps(workflow))
        assert not restore(tmp_path / "evil.json", studio.models).runnable
        with pytest.raises(BadRequest):
            list(studio.render(workflow, "a red star", 1))
    list(studio.design(Request("../../escaped", 1)))  # a prompt names no file
    outside = [p.name for p in tmp_path.rglob("*") if tmp_path / "inside" not in p.parents]
    assert sorted(outside) == ["evil.json", "inside"]
    assert not any("escaped" in path.name for path in tmp_path.rglob("*"))


def test_a_file_that_was_not_uploaded_cannot_be_opened(public: Public, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"prompt": "words that nobody may see"}')
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    (open_file,) = (fn for fn in handlers(public.app) if fn.name == "open_file")
    answer = Caller(public.address).post(open_file, [file])
    assert "error" in answer and "nobody may see" not in str(answer)
