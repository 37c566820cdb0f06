"""Who may write: start runs, import, rescore, delete and vote. Designing is open to everyone.

On your own machine nothing needs to be set up: who sits at it (a request from the loopback address to
a loopback name, through no proxy) is the owner and may do everything. Everybody else is a visitor,
unless these environment variables say otherwise (so behind a proxy of your own, a tunnel such as
Gradio's share links, or from another machine, you need the admin token):

    FLOWDESIGN_WRITERS            Hugging Face user names, by comma: who may write on a Space
    FLOWDESIGN_ADMIN_TOKEN        whoever knows it may write; at least 16 characters
    FLOWDESIGN_VOTING             open: everybody | writers: who may write (the default) | off: nobody
    FLOWDESIGN_VOTES_PER_MINUTE   most votes of one person in a minute where voting is open (60)

**A public Space.** In the README's header set `hf_oauth: true` (the scope "profile", which is the
default, is enough: FlowDesign wants to know the name and nothing else). In the Space's settings add
FLOWDESIGN_WRITERS, and FLOWDESIGN_VOTING as "open" should visitors vote, as variables;
FLOWDESIGN_ADMIN_TOKEN as a *secret*, for programs and for people without an account:

    python -c "import secrets; print(secrets.token_urlsafe())"

A program sends the token as the HTTP header `X-FlowDesign-Token`. With neither writers nor a token
nobody can write on a Space, which is the right setting for a demo. To keep what a Space collects, see
`flowdesign.persistence`.

This module decides; `flowdesign.ui.gate` finds out who is calling. A visitor without an account counts
by network address, so a class room behind one address shares its votes per minute: raise the limit,
or let people log in.

Errors: AccessError        variables that cannot be used
        NotAllowed         the message goes to the person
        |- TooFast         the same request is welcome in `seconds`
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

Action = Literal["vote", "run", "keep", "import", "folder", "rescore", "delete"]
Role = Literal["owner", "admin", "writer", "visitor"]
Voting = Literal["open", "writers", "off"]

SHORTEST_TOKEN = 16  # characters; shorter ones can be guessed
MOST_VOTES = 60  # a minute; a quick rater needs about two seconds a pair
MOST_KEYS = 10_000  # callers that the rate limit remembers at once

DOING: Mapping[Action, str] = {
    "vote": "vote",
    "run": "start or stop runs",
    "keep": "keep records",
    "import": "import records",
    "folder": "read a folder of this machine",
    "rescore": "change scores",
    "delete": "delete or restore records and runs",
}


class AccessError(ValueError):
    """Access variables that cannot be used; the message names each of them and what is allowed."""


class NotAllowed(Exception):
    """The person may not do this; the message says why and what would help."""


class TooFast(NotAllowed):
    """Too many votes in a minute; the next one is welcome in `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class AccessConfig:
    """What the environment says.

    `space` is set on a Hugging Face Space, where nobody is local; `login` where people can log in.
    """

    writers: frozenset[str] = frozenset()  # case-folded user names
    admin_token: str = ""
    voting: Voting = "writers"
    votes_per_minute: int = MOST_VOTES
    space: bool = False
    login: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> AccessConfig:
        """Read the variables above. Raises AccessError that lists every fault at once."""
        given = os.environ if environment is None else environment
        names = given.get("FLOWDESIGN_WRITERS", "").split(",")
        token = given.get("FLOWDESIGN_ADMIN_TOKEN", "").strip()
        voting = given.get("FLOWDESIGN_VOTING", "").strip() or "writers"
        most = given.get("FLOWDESIGN_VOTES_PER_MINUTE", "").strip() or str(MOST_VOTES)
        faults = [*_token_faults(token), *_voting_faults(voting), *_most_faults(most)]
        if faults:
            raise AccessError("\n".join(faults))
        return cls(
            frozenset(name.strip().casefold() for name in names if name.strip()),
            token,
            cast(Voting, voting),
            int(most),
            bool(given.get("SPACE_ID")),
            _can_login(given),
        )

    def is_writer(self, name: str) -> bool:
        """Whether a Hugging Face user is named in FLOWDESIGN_WRITERS; their case does not matter."""
        return name.casefold() in self.writers

    def is_admin(self, token: str) -> bool:
        """Whether this is the admin token. Takes equally long whatever is wrong with it."""
        given, known = (
            hashlib.sha256(t.encode("utf-8", "replace")) for t in (token, self.admin_token)
        )
        return hmac.compare_digest(given.digest(), known.digest()) and bool(self.admin_token)


@dataclass(frozen=True)
class Person:
    """Who is calling. `key` is what the rate limit counts by, and is never stored or shown."""

    role: Role
    name: str = ""  # Hugging Face user name; "" without login
    key: str = ""

    @property
    def writes(self) -> bool:
        """Whether this person may write at all."""
        return self.role != "visitor"

    @property
    def label(self) -> str:
        """Who did it, as records keep it: the user name, else the role."""
        return self.name or self.role

    def rater(self, browser: str) -> str:
        """The name that this person's votes are stored under.

        With a login it is "hf:NAME", on every device. Without one it is made from `browser`, a
        secret that the browser keeps for itself (any text): "local:...", "admin:..." or "anon:...".
        Votes may be published, so the secret is hashed; and no browser can choose a secret that
        gives it another person's name.
        """
        if self.name:
            return f"hf:{self.name}"
        digest = hashlib.sha256(browser.encode("utf-8", "replace")).hexdigest()
        return f"{_RATERS[self.role]}:{digest[:16]}"


_RATERS: Mapping[Role, str] = {
    "owner": "local", "admin": "admin", "writer": "anon", "visitor": "anon"
}  # fmt: skip


class Access:
    """The rules, and how often each visitor has voted. One for each page that is served."""

    def __init__(self, config: AccessConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._limit = RateLimit(config.votes_per_minute, clock)

    def may(self, person: Person, action: Action) -> None:
        """Return when the person may do this, and count it. Raises NotAllowed, TooFast."""
        if refusal := self._refusal(person, action):
            raise NotAllowed(refusal)
        wait = self._limit.take(person.key) if action == "vote" and not person.writes else 0.0
        if wait:
            raise TooFast(
                f"At most {self.config.votes_per_minute} votes a minute are counted. "
                f"Wait {math.ceil(wait)} s and vote on.",
                wait,
            )

    def allows(self, person: Person, action: Action) -> bool:
        """Whether `may` would pass but for the rate limit; counts nothing. For what a page shows."""
        return not self._refusal(person, action)

    def _refusal(self, person: Person, action: Action) -> str:
        """Why the person may not do this, or ""."""
        if person.role == "owner":
            return ""
        if action == "folder":
            at_home = person.role == "admin" and not self.config.space
            return "" if at_home else "Folders of this machine are only for who sits at it."
        if action == "vote" and self.config.voting == "off":
            return "Voting is switched off here."
        if person.writes or (action == "vote" and self.config.voting == "open"):
            return ""
        return self._only_writers(person, action)

    def _only_writers(self, person: Person, action: Action) -> str:
        refused = f"Only people named by the owner of this page may {DOING[action]} here."
        if person.name:
            return f"{refused} You are logged in as {person.name}, who is not one of them."
        if self.config.space and self.config.writers:
            return f"{refused} If you are one of them, log in with Hugging Face first."
        if self.config.admin_token:
            return f"{refused} If you have the admin token, enter it first."
        return f"{refused} Duplicate the Space, or run FlowDesign on your own machine."


class RateLimit:
    """At most `per_minute` in a minute for each key: a bucket that fills at a steady rate."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._full_at: dict[str, float] = {}  # when the key's bucket is full again
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take one; 0.0, or the seconds until the next is there, when nothing is taken."""
        with self._lock:
            now, price = self._clock(), 60.0 / self.per_minute
            full_at = max(self._full_at.get(key, 0.0), now) + price
            if full_at - now > 60.0 + 1e-9:
                return full_at - now - 60.0
            self._full_at.pop(key, None)  # so that the dictionary is in order of last use
            self._full_at[key] = full_at
            self._forget(now)
            return 0.0

    def _forget(self, now: float) -> None:
        """Drop the keys that have not voted for longest, should there be too many."""
        while len(self._full_at) > MOST_KEYS:
            del self._full_at[next(iter(self._full_at))]


def _can_login(given: Mapping[str, str]) -> bool:
    """Whether Gradio's login is the real one: elsewhere it lets everybody in as a made-up user."""
    real = given.get("SYSTEM") == "spaces" and bool(given.get("SPACE_ID"))
    return real and bool(given.get("OAUTH_CLIENT_ID"))


def _token_faults(token: str) -> list[str]:
    if token and len(token) < SHORTEST_TOKEN:
        return [f"FLOWDESIGN_ADMIN_TOKEN has {len(token)} characters; at least {SHORTEST_TOKEN}."]
    return []


def _voting_faults(voting: str) -> list[str]:
    known = get_args(Voting)
    return [] if voting in known else [f"FLOWDESIGN_VOTING is {voting!r}; {', '.join(known)}."]


def _most_faults(most: str) -> list[str]:
    if most.isascii() and most.isdigit() and 1 <= int(most[:9]) <= 100_000:
        return []
    return [f"FLOWDESIGN_VOTES_PER_MINUTE is {most!r}; a whole number from 1 to 100000."]
