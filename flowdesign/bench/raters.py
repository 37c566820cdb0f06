"""Many raters at once, through the HTTP interface of a running app: `simulate` and what it found."""

from __future__ import annotations

import json
import random
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from statistics import median
from typing import Any
from urllib.parse import urlsplit

CHOICES = ("left", "right", "tie")


@dataclass(frozen=True)
class Cast:
    """A vote as a rater sent it; `seconds` is how long the server took for it."""

    token: str
    choice: str
    seconds: float


@dataclass(frozen=True)
class Simulated:
    """All votes by rater, how many were sent twice, and how long everything took."""

    votes: Mapping[int, list[Cast]]
    resent: int
    elapsed: float

    @property
    def sent(self) -> dict[str, str]:
        """The choice of every token."""
        return {vote.token: vote.choice for votes in self.votes.values() for vote in votes}

    @property
    def figures(self) -> dict[str, float]:
        """What a benchmark reports; server times in milliseconds."""
        times = sorted(vote.seconds for votes in self.votes.values() for vote in votes)
        return {
            "raters": len(self.votes),
            "votes": len(times),
            "resent": self.resent,
            "median_ms": round(1000 * median(times), 1),
            "p95_ms": round(1000 * times[int(0.95 * (len(times) - 1))], 1),
            "slowest_ms": round(1000 * times[-1], 1),
            "votes_per_second": round(len(times) / self.elapsed, 1),
        }


@dataclass
class Rater:
    """One person at one page: two questions at hand, an answer, a pause, the next question.

    Every so often an answer is sent twice at the same time, as by two tabs.
    """

    address: str
    number: int
    pause: float
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    page: str = field(default_factory=lambda: secrets.token_hex(6))  # Gradio's session hash
    resent: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.number)
        self._connection = _connect(self.address)

    def vote(self, count: int) -> list[Cast]:
        """Cast so many votes. Raises RuntimeError when the app refuses one, or has nothing to ask."""
        questions = self._call("label_deal", ["pair", self.secret, []])["questions"]
        cast: list[Cast] = []
        while len(cast) < count:
            if not questions:
                raise RuntimeError(
                    f"Rater {self.number} was asked {len(cast)} of {count} questions."
                )
            for address in questions[-1]["images"]:
                self._get(address)
            time.sleep(self.chance.uniform(0, 2) * self.pause)
            token, choice = questions[0]["token"], self.chance.choice(CHOICES)
            held = [question["token"] for question in questions[1:]]
            data = [token, choice, self.chance.randrange(400, 9000), self.secret, held]
            started = time.perf_counter()
            reply = self._call("label_answer", data)
            cast.append(Cast(token, choice, time.perf_counter() - started))
            questions = reply["questions"]
        return cast

    def _call(self, name: str, data: list[Any]) -> Any:
        """Call an endpoint; one call in twenty that votes is doubled."""
        if name == "label_answer" and self.chance.random() < 0.05:
            self.resent += 1
            twice = (_connect(self.address), self.page, name, data)
            twin = threading.Thread(target=_post, args=twice)
            twin.start()
            reply = _post(self._connection, self.page, name, data)
            twin.join()
            return reply
        return _post(self._connection, self.page, name, data)

    def _get(self, address: str) -> None:
        self._connection.request("GET", f"/{address}")
        answer = self._connection.getresponse()
        if answer.status != 200 or not answer.read():
            raise RuntimeError(f"The image was answered with {answer.status}.")


def simulate(
    address: str,
    raters: int = 50,
    votes: int = 2000,
    pause: float = 0.0,
) -> Simulated:
    """Let raters vote at once, each its share of `votes`, pausing `pause` seconds on average.

    `address` is of a running app whose records have pairs enough.
    """
    people = [Rater(address, number, pause) for number in range(raters)]
    started = time.perf_counter()
    with ThreadPoolExecutor(raters) as pool:
        cast = list(pool.map(lambda person: person.vote(votes // raters), people))
    elapsed = time.perf_counter() - started
    return Simulated(dict(enumerate(cast)), sum(one.resent for one in people), elapsed)


def _connect(address: str) -> HTTPConnection:
    return HTTPConnection(urlsplit(address).netloc, timeout=120)


def _post(connection: HTTPConnection, page: str, name: str, data: list[Any]) -> Any:
    """Call an endpoint as the page does. Raises RuntimeError when it refuses.

    Without the page's session hash Gradio would set up a new session for each call.
    """
    body = json.dumps({"data": data, "session_hash": page})
    headers = {"Content-Type": "application/json"}
    connection.request("POST", f"/gradio_api/run/{name}", body, headers)
    answer = connection.getresponse()
    reply = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"/{name} was refused: {reply}")
    return reply["data"][0]
