"""Who is calling, as the gate tells from a request, and which handlers it lets whom get to."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from fake_space import enter_space
from gradio.helpers import special_args
from starlette.requests import Request as HTTPRequest

from flowdesign.access import AccessConfig, Person
from flowdesign.ui.gate import REMEMBERED, Gate

TOKEN = "a-token-that-nobody-guesses"
SPACE = AccessConfig(frozenset({"alice"}), TOKEN, "open", space=True, login=True)
HOME = AccessConfig(frozenset({"alice"}), TOKEN)
HOST = "alice-flowdesign.hf.space"


def ask(
    client: str = "127.0.0.1", host: str = "localhost:7860", page: str = "page", **headers: str
) -> gr.Request:
    """A request as Gradio hands it to a handler; header names are written with underscores."""
    named = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        "client": (client, 50_000),
    }
    return gr.Request(HTTPRequest(scope), session_hash=page)


def profile(name: str) -> gr.OAuthProfile:
    """What Gradio makes of a login."""
    return gr.OAuthProfile(
        {"name": name.title(), "preferred_username": name, "profile": "", "picture": ""}
    )


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- the owner of the machine


@pytest.mark.parametrize(
    ("client", "host"),
    [("127.0.0.1", "localhost:7860"), ("127.0.0.2", "127.0.0.2:80"), ("::1", "[::1]:7860"),
     ("::ffff:127.0.0.1", "localhost")],
)  # fmt: skip
def test_who_sits_at_the_machine_is_the_owner(client: str, host: str) -> None:
    assert Gate(HOME).person(ask(client, host)).role == "owner"


@pytest.mark.parametrize(
    "request_",
    [
        ask("192.168.1.7", "192.168.1.5:7860"),  # another machine
        ask("192.168.1.7", "localhost:7860"),  # another machine that lies about the name
        ask(host="evil.example"),  # a name that was rebound to this machine
        ask(host="localhost.evil.example"),
        ask(host="localhost@evil.example"),
        ask(host=""),
        ask(x_forwarded_for="127.0.0.1"),  # a proxy or a tunnel such as share=True
        ask(forwarded="for=127.0.0.1"),
        ask(x_real_ip="127.0.0.1"),
        ask(origin="https://evil.example"),  # another site in the owner's browser
        ask(origin="http://localhost:9999"),
        ask(origin="null"),
    ],
)
def test_everybody_else_is_a_visitor(request_: gr.Request) -> None:
    assert Gate(HOME).person(request_).role == "visitor"


def test_the_page_itself_is_no_other_site() -> None:
    person = Gate(HOME).person(ask(origin="http://localhost:7860"))
    assert person.role == "owner"


def test_on_a_space_nobody_is_local() -> None:
    assert Gate(SPACE).person(ask()).role == "visitor"


def test_without_a_request_nobody_is_known() -> None:
    assert Gate(HOME).person(None).role == "visitor"


# --- login


def test_logged_in_writers_write() -> None:
    alice = Gate(SPACE).person(ask("10.0.0.1", HOST), profile("Alice"))
    assert alice == Person("writer", "Alice", "hf:Alice")
    mallory = Gate(SPACE).person(ask("10.0.0.1", HOST), profile("mallory"))
    assert (mallory.role, mallory.name) == ("visitor", "mallory")


def test_a_login_counts_only_where_it_is_real() -> None:
    request = ask("192.168.1.7", "192.168.1.5:7860")
    assert Gate(HOME).person(request, profile("alice")) == Person(
        "visitor", key="address:192.168.1.7"
    )


def test_another_site_cannot_use_the_cookie_of_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(SPACE)
    forged = ask("10.0.0.1", HOST, origin="https://evil.example")
    assert gate.person(forged, profile("alice")).role == "visitor"
    own = ask("10.0.0.1", HOST, origin=f"https://{HOST}")
    assert gate.person(own, profile("alice")).role == "writer"
    behind = ask("10.0.0.1", "internal:7860", origin=f"https://{HOST}")
    assert gate.person(behind, profile("alice")).role == "visitor"
    monkeypatch.setenv("SPACE_HOST", f"{HOST},flow.example")  # as a Space says who it is
    assert gate.person(behind, profile("alice")).role == "writer"


# --- the admin token


@pytest.mark.parametrize("config", [SPACE, HOME])
def test_the_header_makes_an_admin(config: AccessConfig) -> None:
    gate = Gate(config)
    assert gate.person(ask("10.0.0.1", HOST, x_flowdesign_token=TOKEN)).role == "admin"
    for wrong in ("", TOKEN[:-1], TOKEN + " ", f"{TOKEN}, {TOKEN}", "\xff"):
        request = ask("10.0.0.1", HOST, x_flowdesign_token=wrong)
        assert gate.person(request).role == "visitor"


def test_a_page_is_an_admins_after_the_token_was_entered() -> None:
    clock = Clock()
    gate = Gate(SPACE, clock)
    page, other = ask("10.0.0.1", HOST, "page one"), ask("10.0.0.1", HOST, "page two")
    assert not gate.enter("wrong", page)
    assert gate.person(page).role == "visitor"
    assert gate.enter(TOKEN, page)
    assert gate.person(page).role == "admin"
    assert gate.person(other).role == "visitor"
    gate.leave(page)
    assert gate.person(page).role == "visitor"
    gate.enter(TOKEN, page)
    clock.now += REMEMBERED + 1
    assert gate.person(page).role == "visitor"


def test_a_request_without_a_page_is_no_admins_page() -> None:
    gate = Gate(SPACE)
    for page in ("", None):
        assert not gate.enter(TOKEN, ask("10.0.0.1", HOST, page))  # type: ignore[arg-type]
        assert gate.person(ask("10.0.0.1", HOST, page)).role == "visitor"  # type: ignore[arg-type]


# --- by what a visitor is counted


@pytest.mark.parametrize(
    ("chain", "counted"),
    [
        ("203.0.113.9", "8.8.4.4"),  # documentation addresses are not public: the proxy's own
        ("8.8.8.8", "8.8.8.8"),
        ("1.1.1.1, 8.8.8.8", "8.8.8.8"),  # the first was sent by the client, and may be invented
        ("8.8.8.8, 10.0.0.3", "8.8.8.8"),  # the last proxies are inside
        ("nonsense, 8.8.8.8 ,", "8.8.8.8"),
        ("2001:4860:4860:1:2:3:4:5", "2001:4860:4860:1::/64"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
    ],
)
def test_visitors_of_a_space_are_counted_by_address(chain: str, counted: str) -> None:
    request = ask("8.8.4.4", HOST, x_forwarded_for=chain)
    assert Gate(SPACE).person(request).key == f"address:{counted}"


def test_elsewhere_an_invented_address_does_not_count() -> None:
    request = ask("192.168.1.7", "192.168.1.5", x_forwarded_for="8.8.8.8")
    assert Gate(HOME).person(request).key == "address:192.168.1.7"


def test_a_new_page_or_an_invented_header_is_no_new_visitor() -> None:
    gate = Gate(AccessConfig(voting="open", votes_per_minute=2, space=True))
    vote = gate.writes("vote", lambda person: "stored")
    for number in range(2):
        request = ask(
            "10.0.0.1", HOST, f"page {number}", x_forwarded_for=f"9.9.9.{number}, 8.8.8.8"
        )
        assert vote(request, None) == "stored"
    with pytest.raises(gr.Error, match="At most 2 votes"):
        vote(ask("10.0.0.1", HOST, "page 3", x_forwarded_for="9.9.9.3, 8.8.8.8"), None)


# --- handlers


class Tab:
    """Handlers of every shape that Gradio knows."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def delete(self, person: Person, ids: str, request: gr.Request, words: str = "none") -> str:
        self.calls.append((person.label, ids, request.session_hash, words))
        return ids

    def steps(self, person: Person, count: int) -> Iterator[int]:
        self.calls.append(person.label)
        yield from range(int(count))


def fill(handler: Any, values: list[Any], request: gr.Request) -> list[Any]:
    """The arguments that Gradio would call the handler with."""
    arguments, *_ = special_args(handler, list(values), request)
    return arguments


def test_gradio_fills_in_who_calls_and_the_rest_as_usual() -> None:
    tab, gate = Tab(), Gate(HOME)
    guarded = gate.writes("delete", tab.delete)
    assert guarded(*fill(guarded, ["7"], ask())) == "7"
    assert guarded(*fill(guarded, ["8", "all"], ask())) == "8"
    assert tab.calls == [("owner", "7", "page", "none"), ("owner", "8", "page", "all")]


def test_generators_stay_generators() -> None:
    tab, gate = Tab(), Gate(HOME)
    guarded = gate.writes("run", tab.steps)
    with gr.Blocks() as app:
        gr.Button().click(guarded, gr.Number(), gr.Number())
    assert [fn.types_generator for fn in app.fns.values()] == [True]
    assert list(guarded(*fill(guarded, [3], ask()))) == [0, 1, 2]
    with pytest.raises(gr.Error, match="may start or stop runs"):
        list(guarded(*fill(guarded, [3], ask("10.0.0.1", HOST))))
    assert tab.calls == ["owner"]


def test_who_may_not_does_not_get_to_the_handler() -> None:
    tab, gate = Tab(), Gate(SPACE)
    guarded = gate.writes("delete", tab.delete)
    with pytest.raises(gr.Error, match="log in with Hugging Face"):
        guarded(*fill(guarded, ["7"], ask("10.0.0.1", HOST)))
    assert tab.calls == []


def test_a_reader_may_ask_who_it_reads_for() -> None:
    gate = Gate(SPACE)
    guarded = gate.reads_for(lambda person: person.role)
    assert guarded(*fill(guarded, [], ask("10.0.0.1", HOST))) == "visitor"


def test_a_handler_that_nobody_declared_is_found() -> None:
    tab, gate = Tab(), Gate(HOME)

    def forgotten() -> None: ...

    with gr.Blocks() as app:
        button, number = gr.Button(), gr.Number()
        button.click(gate.writes("run", tab.steps), number, number)
        button.click(gate.reads(lambda: 1), None, number)
        button.click(forgotten)
        button.click(tab.steps, number, number)  # the handler itself, past the check
    missing = gate.undeclared(app)
    assert [name.split(".")[-1] for name in missing] == ["forgotten", "steps"]


# --- the login row


def rows(gate: Gate) -> list[str | None]:
    """The elements of a page that has the gate's row in its header."""
    with gr.Blocks() as app:
        gate.build_row(app)
    assert gate.undeclared(app) == []
    return [getattr(block, "elem_id", None) for block in app.blocks.values()]


def test_the_login_row_is_there_only_where_it_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    enter_space(monkeypatch)
    alice = frozenset({"alice"})
    for config in (
        AccessConfig(),
        AccessConfig(alice),  # no Space, so no login
        AccessConfig(space=True, login=True),  # a demo where nobody writes
    ):
        assert "fd-login" not in rows(Gate(config))
    for config in (
        AccessConfig(alice, space=True, login=True),
        AccessConfig(voting="open", space=True, login=True),  # the same rater on every device
    ):
        assert "fd-login" in rows(Gate(config)) and "fd-token" not in rows(Gate(config))
    assert "fd-token" in rows(Gate(AccessConfig(admin_token=TOKEN)))
