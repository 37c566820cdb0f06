"""Who may do what, how often one may vote, and what the environment may say."""

import itertools
import threading

import pytest

from flowdesign.access import (
    MOST_KEYS,
    Access,
    AccessConfig,
    AccessError,
    Action,
    NotAllowed,
    Person,
    RateLimit,
    TooFast,
)

TOKEN = "a-token-that-nobody-guesses"
OWNER = Person("owner", key="owner")
ADMIN = Person("admin", key="address:10.0.0.1")
WRITER = Person("writer", "alice", "hf:alice")
GUEST = Person("visitor", "mallory", "hf:mallory")
STRANGER = Person("visitor", "", "address:203.0.113.9")
EVERYONE = (OWNER, ADMIN, WRITER, GUEST, STRANGER)
LASTING: tuple[Action, ...] = ("run", "keep", "import", "rescore", "delete")


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def allowed(access: Access, action: Action) -> list[str]:
    """The roles of those who may."""
    found = []
    for person in EVERYONE:
        try:
            access.may(person, action)
        except NotAllowed:
            assert not access.allows(person, action)
            continue
        assert access.allows(person, action)
        found.append(person.name or person.role)
    return found


@pytest.mark.parametrize("action", LASTING)
@pytest.mark.parametrize("space", [True, False])
def test_only_named_people_change_what_lasts(action: Action, space: bool) -> None:
    access = Access(AccessConfig(frozenset({"alice"}), TOKEN, "open", space=space))
    assert allowed(access, action) == ["owner", "admin", "alice"]


@pytest.mark.parametrize(
    ("voting", "who"),
    [
        ("open", ["owner", "admin", "alice", "mallory", "visitor"]),
        ("writers", ["owner", "admin", "alice"]),
        ("off", ["owner"]),
    ],
)
def test_who_votes(voting: str, who: list[str]) -> None:
    config = AccessConfig.from_environment({"FLOWDESIGN_VOTING": voting, "SPACE_ID": "a/b"})
    assert allowed(Access(config), "vote") == who


def test_folders_of_the_machine_are_for_who_sits_at_it() -> None:
    assert allowed(Access(AccessConfig(space=True)), "folder") == ["owner"]
    assert allowed(Access(AccessConfig(space=False)), "folder") == ["owner", "admin"]


def test_refusals_say_what_would_help() -> None:
    space = AccessConfig(frozenset({"alice"}), space=True)
    for config, person, words in [
        (space, GUEST, "start or stop runs here. You are logged in as mallory"),
        (space, STRANGER, "log in with Hugging Face first"),
        (AccessConfig(admin_token=TOKEN), STRANGER, "enter it first"),
        (AccessConfig(), STRANGER, "run FlowDesign on your own machine"),
    ]:
        with pytest.raises(NotAllowed, match=words):
            Access(config).may(person, "run")


# --- how often


def test_votes_are_limited_for_each_visitor_alone() -> None:
    clock = Clock()
    access = Access(AccessConfig(voting="open", votes_per_minute=3, space=True), clock)
    for _ in range(3):
        access.may(STRANGER, "vote")
    with pytest.raises(TooFast, match="At most 3 votes a minute") as told:
        access.may(STRANGER, "vote")
    assert told.value.seconds == pytest.approx(20)
    access.may(GUEST, "vote")
    for person in (OWNER, ADMIN, WRITER):
        for _ in range(10):
            access.may(person, "vote")


def test_the_limit_is_what_it_says_in_any_minute() -> None:
    clock = Clock()
    limit = RateLimit(6, clock)
    taken = []
    for _ in range(1200):  # asks ten times a second for two minutes
        if not limit.take("one"):
            taken.append(clock.now)
        clock.now += 0.1
    assert len(taken) == pytest.approx(6 + 12, abs=1)  # what was saved up, then the steady rate
    clock.now += 3600
    assert [limit.take("one") for _ in range(6)] == [0.0] * 6  # no more is saved than a minute's
    assert limit.take("one") > 0


def test_waiting_as_told_is_enough() -> None:
    clock = Clock()
    limit = RateLimit(7, clock)
    for _ in range(50):
        if wait := limit.take("one"):
            clock.now += wait
            assert limit.take("one") == 0.0


def test_the_limit_forgets_who_has_not_come_for_longest() -> None:
    limit = RateLimit(1, Clock())
    for number in range(MOST_KEYS + 1):
        assert not limit.take(str(number))
    assert limit.take(str(MOST_KEYS)) > 0
    assert limit.take("0") == 0.0  # forgotten: memory stays bounded


def test_many_threads_get_no_more_than_the_limit() -> None:
    limit, got = RateLimit(100, Clock()), itertools.count()

    def ask() -> None:
        for _ in range(50):
            if not limit.take("one"):
                next(got)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert next(got) == 100


# --- the environment


def test_the_environment_names_writers_and_limits() -> None:
    config = AccessConfig.from_environment(
        {
            "FLOWDESIGN_WRITERS": " Alice, bob ,,",
            "FLOWDESIGN_ADMIN_TOKEN": TOKEN,
            "FLOWDESIGN_VOTING": "open",
            "FLOWDESIGN_VOTES_PER_MINUTE": "30",
            "SPACE_ID": "alice/flowdesign",
            "SYSTEM": "spaces",
            "OAUTH_CLIENT_ID": "id",
        }
    )
    assert config == AccessConfig(frozenset({"alice", "bob"}), TOKEN, "open", 30, True, True)
    assert config.is_writer("ALICE") and not config.is_writer("alicea")
    assert AccessConfig.from_environment({}) == AccessConfig()


def test_login_counts_only_where_it_is_real() -> None:
    """Outside a Space, Gradio's login lets everybody in as the account that the machine has."""
    real = {"SPACE_ID": "a/b", "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "id"}
    assert AccessConfig.from_environment(real).login
    for missing in real:
        others = {name: value for name, value in real.items() if name != missing}
        assert not AccessConfig.from_environment(others).login


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(AccessError) as told:
        AccessConfig.from_environment(
            {
                "FLOWDESIGN_ADMIN_TOKEN": "short",
                "FLOWDESIGN_VOTING": "yes",
                "FLOWDESIGN_VOTES_PER_MINUTE": "0",
            }
        )
    assert len(str(told.value).splitlines()) == 3
    assert "short" not in str(told.value)  # a secret stays out of the log


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü" * 40, "\ud800"])
def test_only_the_whole_token_is_the_token(token: str) -> None:
    config = AccessConfig(admin_token=TOKEN)
    assert config.is_admin(TOKEN)
    assert not config.is_admin(token)
    assert not AccessConfig().is_admin(
        token
    )  # no token is set: nobody has it, the empty one neither


# --- raters


def test_no_browser_can_take_another_rater_name() -> None:
    assert WRITER.rater("x") == WRITER.rater("y") == "hf:alice"
    names = {person.rater("secret") for person in (OWNER, ADMIN, STRANGER)}
    assert {name.split(":")[0] for name in names} == {"local", "admin", "anon"}
    assert STRANGER.rater("hf:alice") != "hf:alice"
    assert STRANGER.rater("a") != STRANGER.rater("b")
    assert "secret" not in STRANGER.rater("secret")
