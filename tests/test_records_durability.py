"""What was acknowledged stays written, whoever writes, dies or is of another version."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from record_toys import (
    check_sound,
    open_toy,
    png,
    simple,
)

from flowdesign.records import (
    Filter,
    Store,
    StoreError,
    StoreTooNew,
    UnknownRecord,
    Vote,
    schema,
    sha_of,
    writing,
)

TESTS = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        yield opened


# --- durability ----------------------------------------------------------------------------------

WRITING = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from record_toys import png, simple
from flowdesign.records import Store, Vote, sha_of
start, count, step = map(int, sys.argv[2:])
with Store.open(Path(sys.argv[1])) as store:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(start, start + count * step, step):
        data = png(number)
        a, b = store.add([simple(number % 7, seed=number * 2, image=sha_of(data)),
                          simple(number % 7, seed=number * 2 + 1)], {{sha_of(data): data}})
        vote = store.vote(Vote(a, b, "left", "me", f"token {{number}}"))
        print(number, a, b, vote, flush=True)
"""


def writer(folder: Path, start: int, count: int, step: int = 1) -> subprocess.Popen[str]:
    code = WRITING.format(tests=str(TESTS))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(start), str(count), str(step)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS.parent,
    )  # fmt: skip


def begin(*processes: subprocess.Popen[str]) -> None:
    """Let them write at the same moment."""
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.parametrize("after", [1, 17, 60])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, after: int) -> None:
    process = writer(tmp_path, 0, 100_000)
    begin(process)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().splitlines()  # what it said before it died counts too
    process.wait()
    lines = [line.split() for line in told if len(line.split()) == 4]
    assert len(lines) >= after
    with Store.open(tmp_path) as store:
        votes = {vote.token: vote for vote in store.votes()}
        for number, a, b, vote in lines:
            data = png(int(number))
            found = store.get(int(a))
            path = store.image_path(found.image)
            assert found.seed == int(number) * 2 and path is not None
            assert path.read_bytes() == data
            assert store.get(int(b)).seed == int(number) * 2 + 1
            assert votes[f"token {number}"].id == int(vote)
        check_sound(store)
        assert store.count() - 2 * len(lines) in (0, 1, 2)  # one add may not have been told
    # An image is whole or not there under its name.
    for image in (tmp_path / "images").rglob("*.png"):
        assert sha_of(image.read_bytes()) == image.stem


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    count = 120
    processes = [writer(tmp_path, 0, count, 2), writer(tmp_path, 1, count, 2)]
    shared = writer(tmp_path, 0, count, 1)  # and one that writes what the others write
    begin(*processes, shared)
    lines = [
        tuple(map(int, line.split()))
        for process in (*processes, shared)
        for line in process.communicate()[0].splitlines()
    ]
    assert [process.returncode for process in (*processes, shared)] == [0, 0, 0]
    assert len(lines) == 3 * count
    told: dict[int, set[tuple[int, ...]]] = {}
    for number, *ids in lines:
        told.setdefault(number, set()).add(tuple(ids))
    assert all(len(ids) == 1 for ids in told.values())  # all were told the same ids
    with Store.open(tmp_path) as store:
        assert store.count() == 2 * len(told) == 4 * count
        assert store.count_votes() == len(told)
        check_sound(store)


def test_processes_that_open_a_new_store_at_once_all_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flowdesign.records import Store\n"
        "with Store.open(Path(sys.argv[1])) as store: print(store.count())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TESTS.parent)
        for _ in range(5)
    ]
    assert [process.communicate()[0] for process in processes] == ["0\n"] * 5


def test_many_threads_write_and_read_at_once(store: Store) -> None:
    def work(thread: int) -> list[int]:
        found = []
        for number in range(15):
            found += store.add([simple(number, renderer=f"thread {thread}")])
            assert store.get(found[-1]).renderer == f"thread {thread}"
            store.find(Filter(text="star"))
        return found

    with ThreadPoolExecutor(12) as pool:
        ids = [number for found in pool.map(work, range(12)) for number in found]
    assert len(set(ids)) == 180 == store.count()
    check_sound(store)


def test_a_failing_write_takes_no_other_one_along(store: Store) -> None:
    (a, b) = store.add([simple(1), simple(8)])

    def work(number: int) -> str:
        try:
            store.vote(Vote(a, b if number % 2 else 9999, "left", "me", f"t{number}"))
        except UnknownRecord:
            return "unknown"
        return "stored"

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(work, range(40)))
    assert told == ["unknown", "stored"] * 20
    assert store.count_votes() == 20


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.add([simple(1)])
    with pytest.raises(StoreError, match="closed"):
        store.find()


# --- versions ------------------------------------------------------------------------------------


def old_store(folder: Path, version: int) -> None:
    """A store as the steps up to `version` made it, with one record."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "records.sqlite3", isolation_level=None)
    for script in schema.MIGRATIONS[:version]:
        connection.executescript(script)
    connection.execute(f"PRAGMA user_version = {version}")
    writing.Adder(connection, lambda sha: False).add(writing.prepare(simple(3)))
    connection.close()


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS)))
def test_an_older_store_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    old_store(tmp_path / "old", version)
    with Store.open(tmp_path / "old") as store:
        (record,) = store.find().rows
        assert (record.seed, record.scores) == (3, {"exact": 0.3})
        (other,) = store.add([simple(10)])
        assert record.id is not None
        store.vote(Vote(record.id, other, "tie", "me", "t"))
        assert store.undelete(store.delete([other], "me")) == 1
        check_sound(store)
    old = tables(tmp_path / "old")
    Store.open(tmp_path / "new").close()
    assert old == tables(tmp_path / "new")


def tables(folder: Path) -> list[Any]:
    with sqlite3.connect(folder / "records.sqlite3") as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name")
        rows = [*found, connection.execute("PRAGMA user_version").fetchone()]
    connection.close()
    return rows


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_toy(tmp_path / "data", 3).close()
    file = tmp_path / "data" / "records.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreTooNew) as told:
        Store.open(tmp_path / "data")
    assert "newer FlowDesign" in str(told.value) and "99" in str(told.value)
    assert "Update FlowDesign" in str(told.value) and str(file) in str(told.value)
    assert file.read_bytes() == before


def test_a_migration_that_fails_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_toy(tmp_path / "data", 3).close()
    before = tables(tmp_path / "data")
    broken = (*schema.MIGRATIONS, "CREATE TABLE extra (a);\nINSERT INTO nowhere VALUES (1);\n")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(StoreError, match="nowhere"):
            Store.open(tmp_path / "data")
    assert tables(tmp_path / "data") == before
    with Store.open(tmp_path / "data") as store:
        assert store.count() == 3


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite3").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path / "file")


def test_the_file_is_as_the_design_says(store: Store) -> None:
    with sqlite3.connect(store.folder / "records.sqlite3") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    with store._readers.lend() as reader:
        assert reader.execute("PRAGMA foreign_keys").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError):
            reader.execute("DELETE FROM records")
