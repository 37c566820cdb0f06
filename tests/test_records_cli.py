"""`python -m flowdesign records` and `bench`: what they print, do and refuse."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from language_toys import random_workflows
from PIL import Image
from record_toys import fill_awkward, open_toy

from flowdesign import bench, comfy
from flowdesign.__main__ import main
from flowdesign.bench import BENCHMARKS, Measured, as_text
from flowdesign.designs import Restored
from flowdesign.records import Store
from flowdesign.workflow import Problem


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    status, out, err = run(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_out_and_back_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(tmp_path / "a") as store:
        fill_awkward(store)
    for end in ("jsonl", "csv", "parquet"):
        target = tmp_path / f"{end}.zip"
        made = answer(
            capsys, "records", "export", target, "--format", end, "--data", tmp_path / "a"
        )
        assert made["records"] == 13 and made["path"] == str(target)
        read = answer(capsys, "records", "import", target, "--data", tmp_path / f"of {end}")
        assert (read["new"], read["votes"], read["ratings"]) == (13, 4, 2)
    status, out, _ = run(capsys, "records", "import", target, "--data", tmp_path / "of csv")
    assert status == 0 and "13 records read, 0 of them new" in out


def test_an_export_is_narrowed_by_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_toy(tmp_path / "a").close()
    options = ("--text", "RED number", "--scorer", "exact", "--low", "2", "--split", "train")
    made = answer(capsys, "records", "export", tmp_path / "o", *options, "--data", tmp_path / "a")
    assert 0 < made["records"] < 30 and set(made["splits"]) == {"train"}
    card = answer(capsys, "records", "card", *options, "--title", "T!", "--data", tmp_path / "a")
    assert card["card"].startswith("---\npretty_name: 'T!'\n")
    assert f"| train | {made['records']} |" in card["card"]


def test_a_history_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    info = comfy.png_info(random_workflows(1)[0], "a red star", 3)
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "a.png", pnginfo=info)
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "b.png")
    status, out, _ = run(capsys, "records", "history", tmp_path / "in", "--data", tmp_path / "d")
    assert status == 0
    assert out.splitlines() == [
        "2 PNG files: 1 records, 1 of them new, 0 with nodes that FlowDesign does not know",
        "1 skipped: carries no workflow",
    ]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("import", "nowhere.jsonl"), "There is no file"), (("history", "nowhere"), "There is no"),
        (("export", "."), "exists already"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], word: str
) -> None:
    status, out, err = run(capsys, "records", *arguments, "--data", tmp_path)
    assert (status, out) == (2, "") and word in err and "Traceback" not in err


@pytest.mark.slow
def test_a_benchmark_measures_the_store_at_two_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowdesign.bench.records.QUICK_SIZES", (40, 80))
    status, out, err = run(capsys, "bench", "records", "--quick", "--json")
    assert status == 0 and "80 records: parquet" in err
    (rows,) = [measured["rows"] for measured in json.loads(out).values()]
    figures = {row["figure"]: row for row in rows}
    assert set(rows[0]) == {"figure", "40", "80", "growth"}
    assert "open, options and first page, ms" in figures and "add, records/s" in figures
    for end in ("jsonl", "csv", "parquet"):
        assert figures[f"export {end}, records/s"]["80"] > 0
        assert f"export {end}, added peak MB" in figures


@pytest.mark.slow
def test_faulty_files_are_imported_with_a_problem_or_a_workflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flowdesign.bench.imports.templates", lambda: iter(()))
    measured = import_module("flowdesign.bench.imports").measure(True, print)
    rows = {row["import of"]: row for row in measured.rows}
    assert rows["real files with faults"]["files"] == 300
    assert int(rows["files made to harm"]["files"]) > 30
    for row in measured.rows:  # of the processor's time, whatever else it does
        assert row["raised"] == 0, measured.notes
        assert float(row["slowest_ms"]) < 2_000 and float(row["grown_mb"]) < 500, row


def test_a_benchmark_of_imports_counts_what_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    imports = import_module("flowdesign.bench.imports")
    told = Restored(None, "", None, "", (Problem("invalid_json", "", "", "No."),))
    answers = {1: told, 2: replace(told, problems=()), 3: ZeroDivisionError("by nothing")}

    def restore(path: Path, models: object) -> Restored:
        answer = answers[path.stat().st_size]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(imports, "restore", restore)
    row, notes = imports._row("x", [("good", b"a"), ("silent", b"ab"), ("bad", b"abc")], None)
    assert (row["files"], row["raised"]) == (3, 2)
    assert "RAISED by silent: no workflow, no problem" in notes
    assert "RAISED by bad: ZeroDivisionError: by nothing" in notes


@pytest.mark.slow
def test_a_step_is_taken_with_a_base_of_random_weights(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "bench", "large", "--quick", "--json")
    (rows,) = [measured["rows"] for measured in json.loads(out).values()]
    assert status == 0 and [row["step of"] for row in rows] == ["SFT", "GRPO"]


def test_an_unknown_benchmark_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "bench", "recrods")
    assert status == 2 and "Did you mean 'records'" in err


def test_every_benchmark_of_the_table_can_be_imported() -> None:
    for name, each in BENCHMARKS.items():
        assert each.name == name and each.about
        assert callable(import_module(each.module).measure)
    assert bench.run is not None


def test_a_table_of_figures_is_aligned() -> None:
    text = as_text(Measured([{"figure": "a", "n": 1}, {"figure": "bbb", "n": 12345.6}], ["note"]))
    assert text.splitlines() == ["figure       n", "a            1", "bbb     12,346", "note"]
