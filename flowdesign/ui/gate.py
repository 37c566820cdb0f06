"""The gate: finds out who is calling, and lets only those people through to a handler that writes.

Every handler of every tab is declared where it is connected, as one of three kinds:

    gate.reads(self.show)               writes nothing that outlasts the page
    gate.reads_for(self.next_pair)      the same, and wants to know who is asking
    gate.writes("delete", self.delete)  writes: called only after `Access.may(person, "delete")`

A handler of the last two kinds takes the `Person` first, then its inputs; gr.Request and the like may
stand among them as usual. Whoever may not gets the reason as a gr.Error, over HTTP as on the page, and
the handler is not called. `undeclared` lists the handlers of a built page that nobody declared, which
a test holds to none: Gradio's `api_visibility="private"` hides an endpoint and protects nothing.

A person is, in this order:

1. **admin**, who sends the admin token as the header `X-FlowDesign-Token`, or has entered it on this
   page (the page is remembered here by Gradio's session hash, for some hours or until it closes);
2. **writer**, who has logged in through Hugging Face on a Space and is named in the config;
3. **owner**, who sits at the machine: no Space, a request from a loopback address, for a loopback
   name (so no other site can be rebound to it), through no proxy or tunnel;
4. otherwise a visitor, with a name after a login.

A request that another site made a browser send (its Origin is not this page's) proves nothing by
login, page or machine: such a person is a visitor without a name.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Literal
from urllib.parse import urlsplit

import gradio as gr

from flowdesign.access import Access, AccessConfig, Action, NotAllowed, Person
from flowdesign.ui import cards
from flowdesign.ui.handlers import QUIET

Handler = Callable[..., Any]
Kind = Literal["read"] | Action

TOKEN_HEADER = "x-flowdesign-token"
REMEMBERED = 8 * 3600.0  # seconds that a page counts as admin after the token was entered
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
OWNER = Person("owner", key="owner")


class Gate:
    """Who may pass, for one served page, and what each handler has been declared as."""

    def __init__(
        self, config: AccessConfig | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`config` is the environment's unless given. Raises AccessError for bad variables."""
        self.config = config or AccessConfig.from_environment()
        self.access = Access(self.config, clock)
        self.declared: dict[Handler, Kind] = {}
        self._admins = _Pages(clock)

    # --- declaring handlers

    def reads(self, handler: Handler) -> Handler:
        """Declare a handler that writes nothing which outlasts the page; it stays as it is."""
        self.declared[handler] = "read"
        return handler

    def reads_for(self, handler: Handler) -> Handler:
        """Declare the same for a handler whose first parameter is the Person who asks."""
        return self._declare("read", handler, lambda person: None)

    def writes(self, action: Action, handler: Handler) -> Handler:
        """Declare a handler that writes; only who may do `action` gets to it, and comes first."""
        return self._declare(action, handler, lambda person: self.admit(person, action))

    def undeclared(self, app: gr.Blocks) -> list[str]:
        """The names of the page's handlers that are neither declared to read nor to write."""
        handlers = [fn.fn for fn in app.fns.values() if fn.fn is not None]
        missing = [handler for handler in handlers if handler not in self.declared]
        return [getattr(handler, "__qualname__", repr(handler)) for handler in missing]

    # --- who is calling

    def person(self, request: gr.Request | None, profile: gr.OAuthProfile | None = None) -> Person:
        """Who sent this request. `profile` is what Gradio fills in, never what a client sends."""
        if request is None:
            return Person("visitor")
        headers = _headers(request)
        trusted = self._same_origin(headers)
        name = profile.username if profile and trusted and self.config.login else ""
        key = f"hf:{name}" if name else f"address:{self._address(request, headers)}"
        by_page = trusted and self._admins.has(request.session_hash)
        if by_page or self.config.is_admin(headers.get(TOKEN_HEADER, "")):
            return Person("admin", name, key)
        if name and self.config.is_writer(name):
            return Person("writer", name, key)
        if trusted and not self.config.space and _is_local(request, headers):
            return OWNER
        return Person("visitor", name, key)

    def admit(self, person: Person, action: Action) -> None:
        """Return when the person may do this, and count it. Raises gr.Error that says why not."""
        try:
            self.access.may(person, action)
        except NotAllowed as refusal:
            raise gr.Error(str(refusal), title="Not allowed", print_exception=False) from refusal

    def enter(self, token: str, request: gr.Request) -> bool:
        """Remember the page as an admin's when the token is right; say whether it is."""
        right = self.config.is_admin(token) and bool(request.session_hash)
        if right:
            self._admins.add(request.session_hash or "")
        return right

    def leave(self, request: gr.Request) -> None:
        """Forget that this page is an admin's."""
        self._admins.drop(request.session_hash)

    # --- the login row

    def build_row(self, app: gr.Blocks) -> None:
        """Add the login row to the header, where some people have to say who they are.

        Nothing is added when a login could change nothing. The owner of the machine never sees it.
        """
        if self.offers_login or self.config.admin_token:
            _LoginRow(self, app)

    @property
    def offers_login(self) -> bool:
        """Whether a login through Hugging Face works here and would change anything."""
        useful = self.config.writers or self.config.voting == "open"
        return self.config.login and bool(useful)

    def _declare(self, kind: Kind, handler: Handler, check: Callable[[Person], None]) -> Handler:
        guarded = _guarded(handler, lambda *who: self._checked(check, *who))
        self.declared[guarded] = kind
        return guarded

    def _checked(
        self, check: Callable[[Person], None], request: gr.Request, profile: gr.OAuthProfile | None
    ) -> Person:
        person = self.person(request, profile)
        check(person)
        return person

    def _same_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether the request comes from this page or from a program, not from another site."""
        origin = headers.get("origin")
        if origin is None:
            return True
        hosts = [headers.get("host", ""), *os.environ.get("SPACE_HOST", "").split(",")]
        return urlsplit(origin).netloc in {host.strip() for host in hosts if host.strip()}

    def _address(self, request: gr.Request, headers: Mapping[str, str]) -> str:
        """Where the request comes from, for counting; an IPv6 customer has a whole /64.

        On a Space proxies note it: the last public address, because what stands before it was sent
        by the client and may be invented. Elsewhere the header may all be invented.
        """
        chain = headers.get("x-forwarded-for", "").split(",") if self.config.space else []
        addresses = [parsed for text in chain if (parsed := _parse(text))]
        public = next((one for one in reversed(addresses) if one.is_global), None)
        address = public or _parse(_client(request))
        if isinstance(address, IPv6Address):
            return str(ip_network((address, 64), strict=False))
        return str(address or _client(request))


class _Pages:
    """Session hashes of pages where the admin token was entered, each for `REMEMBERED` seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, page: str) -> None:
        with self._lock:
            now = self._clock()
            self._until = {one: until for one, until in self._until.items() if until > now}
            self._until[page] = now + REMEMBERED

    def has(self, page: str | None) -> bool:
        with self._lock:
            return bool(page) and self._until.get(page or "", 0.0) > self._clock()

    def drop(self, page: str | None) -> None:
        with self._lock:
            self._until.pop(page or "", None)


class _LoginRow:
    """Login through Hugging Face, a field for the admin token, and who one is."""

    def __init__(self, gate: Gate, app: gr.Blocks) -> None:
        self.gate = gate
        with gr.Row(elem_id="fd-login", visible=False) as self.row:
            self.who = cards.html(elem_id="fd-who")
            if gate.offers_login:
                button = gr.LoginButton(
                    "Log in with Hugging Face", "Log out {}", size="sm", scale=0
                )
                gate.reads(button._check_login_status)  # Gradio's own; it reads the cookie
            if gate.config.admin_token:
                self._build_token()
        app.load(gate.reads_for(self.show), None, [self.row, self.who], **QUIET)
        app.unload(gate.reads(gate.leave))

    def _build_token(self) -> None:
        self.token = gr.Textbox(
            show_label=False,
            label="Admin token",
            placeholder="Admin token, then Enter",
            type="password",
            max_lines=1,
            container=False,
            elem_id="fd-token",
        )
        self.token.submit(
            self.gate.reads(self.try_token), self.token, [self.token, self.who], **QUIET
        )

    def show(self, person: Person) -> tuple[Any, str]:
        """Show the row to those who are not at home here, with what they may do."""
        return gr.update(visible=person.role != "owner"), self._say(person)

    def try_token(self, token: str, request: gr.Request) -> tuple[Any, str]:
        """Take the token from the field, which is emptied either way and goes when it was right."""
        if not self.gate.enter(str(token or ""), request):
            wrong = cards.chip("Wrong token", "fd-bad", "This is not the admin token.")
            return gr.update(value=""), wrong
        return gr.update(value="", visible=False), self._say(Person("admin"))

    def _say(self, person: Person) -> str:
        if person.writes:
            return cards.chip(f"{person.label}: may write", "fd-ok", "Runs, imports, deletions.")
        votes = self.gate.access.allows(person, "vote")
        may = "may look, design and vote" if votes else "may look and design"
        return cards.chip(f"{person.label}: {may}", "", "To do more, log in.")


def _guarded(handler: Handler, who: Callable[..., Person]) -> Handler:
    """The handler with `request, profile` in the place of its first parameter.

    Gradio reads signatures and annotations to know what to fill in, so both are made to fit.
    """
    if inspect.isgeneratorfunction(handler):

        @wraps(handler)
        def guarded(
            request: gr.Request, profile: gr.OAuthProfile | None, *values: Any
        ) -> Iterator[Any]:
            yield from handler(who(request, profile), *values)
    else:

        @wraps(handler)
        def guarded(request: gr.Request, profile: gr.OAuthProfile | None, *values: Any) -> Any:
            return handler(who(request, profile), *values)

    mine = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first, *others = inspect.signature(handler).parameters.values()
    callers = [inspect.Parameter(name, mine) for name in ("request_", "profile_")]
    hints = typing.get_type_hints(handler)
    gives = hints.get("return", inspect.Signature.empty)
    signature = inspect.Signature([*callers, *others], return_annotation=gives)
    guarded.__signature__ = signature  # type: ignore[attr-defined]
    hints.pop(first.name, None)
    guarded.__annotations__ = {
        "request_": gr.Request, "profile_": gr.OAuthProfile | None
    } | hints  # fmt: skip
    return guarded


def _headers(request: gr.Request) -> dict[str, str]:
    """The headers with small names; one that was sent twice holds both values."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _is_local(request: gr.Request, headers: Mapping[str, str]) -> bool:
    """Whether the request comes from this machine itself. A tunnel or proxy may run here too."""
    if any(name in headers for name in FORWARDED):
        return False
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    return _is_loopback(_client(request)) and (host == "localhost" or _is_loopback(host))


def _client(request: gr.Request) -> str:
    client = request.client
    return str(client.host) if client else ""


def _parse(text: str) -> Any:
    """The IP address, None when the text is not one; an IPv4 address may come dressed as IPv6."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(text: str) -> bool:
    address = _parse(text)
    return bool(address and address.is_loopback)
