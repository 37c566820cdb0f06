"""The command line: what it prints, its exit status, and that it starts in a moment."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from shipped import needs_models, needs_policy
from toys import every_model

from flowdesign import comfy, runs
from flowdesign.__main__ import main
from flowdesign.catalog import known_assets
from flowdesign.commands import designing, training
from flowdesign.config import Step
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence
from flowdesign.workflow import Workflow, bind

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("design", "render", "validate", "records", "bench", "zoo", "sft", "reward", "grpo")


@pytest.fixture
def workflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workflow:
    """A random valid workflow, bound; all models that the catalog knows seem installed."""
    monkeypatch.setenv("FLOWDESIGN_MODELS", str(every_model(tmp_path / "models")))
    sentence = random_sentence(Automaton(VOCABULARY, known_assets()), random.Random(1))
    decoded = decode(sentence)
    assert decoded.workflow is not None
    return bind(decoded.workflow, "a red star", 3)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def cpu_seconds() -> float:
    """Processor time of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_answers_quickly_and_without_torch() -> None:
    """Under a second alone; here it is held against an import of torch, on the same busy machine."""
    started = cpu_seconds()
    shown = python("-m", "flowdesign", "--help")
    helped = cpu_seconds()
    python("-c", "import torch")
    assert helped - started < 0.7 * (cpu_seconds() - helped)
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in COMMANDS)
    heavy = "import sys, flowdesign.__main__; print([m for m in %r if m in sys.modules])"
    names = ["torch", "transformers", "peft", "diffusers", "gradio", "bitsandbytes"]
    assert python("-c", heavy % names).stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_a_valid_workflow_is_valid(
    workflow: Workflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, form in (("api.json", comfy.to_api(workflow)), ("ui.json", comfy.to_ui(workflow))):
        (tmp_path / name).write_text(json.dumps(form))
        status, out, _ = run(capsys, "validate", tmp_path / name, "--json")
        assert (status, json.loads(out)) == (0, {"valid": True, "problems": []})


def problems(out: str) -> list[dict[str, Any]]:
    result = json.loads(out)
    assert result["valid"] is False
    for problem in result["problems"]:
        assert set(problem) == {"code", "node", "input", "message"}
    found: list[dict[str, Any]] = result["problems"]
    return found


def test_a_wrong_name_is_told_with_the_right_one(
    workflow: Workflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(workflow).replace("mini_", "mimi_", 1)
    (tmp_path / "bad.json").write_text(text)
    status, out, _ = run(capsys, "validate", tmp_path / "bad.json", "--json")
    assert status == 1
    assert any("Did you mean 'mini_" in problem["message"] for problem in problems(out))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1}', "\0", "null", '"graph"'])
def test_what_is_no_workflow_is_a_problem(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.json").write_text(text)
    status, out, _ = run(capsys, "validate", tmp_path / "odd.json", "--json")
    assert status == 1
    assert problems(out)


def test_a_missing_file_is_a_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "validate", tmp_path / "nowhere.json")
    assert status != 0
    assert "nowhere.json" in out + err
    assert "Traceback" not in err


def test_bad_options_are_told_and_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "sft", "--lora-rate", "-1", "--run", "a/b")
    assert status == 2
    assert "lora_rate" in err and "run" in err


def test_an_empty_prompt_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "design", "  ")
    assert status == 2
    assert "prompt" in err.lower()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temperature", "nan"], "temperature"),
        (["--temperature", "inf"], "temperature"),
        (["--temperature", "-1"], "temperature"),
        (["--seed", "-1"], "whole number"),
        (["-n", "0"], "1 to 1000"),
        (["-n", "1001"], "1 to 1000"),
    ],
)
def test_requests_out_of_range_are_told(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "design", "a red star", *options)
    assert status == 2
    assert words in err


def test_a_folder_without_a_policy_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "design", "a red star", "--policy", tmp_path)
    assert status == 2
    assert "no policy in" in err


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(file: Path) -> None:
        raise ValueError("zip() argument 2 is shorter than argument 1")

    monkeypatch.setattr(designing, "restore", faulty)
    with pytest.raises(ValueError, match="shorter"):
        main(["validate", __file__])


# --- render


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A workflow file for random models of a few thousand weights, which seem installed."""
    from test_studio import txt2img
    from tiny_models import write_tiny_models

    monkeypatch.setenv("FLOWDESIGN_MODELS", str(write_tiny_models(tmp_path / "models")))
    file = tmp_path / "w.json"
    workflow = txt2img(n1__ckpt_name="tiny_mini", n5__steps=2, n2__text="a red star")
    file.write_text(json.dumps(workflow), encoding="utf-8")
    return file


@pytest.mark.slow
def test_render_writes_the_image_and_prints_what_it_made(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["render", tiny, "--prompt", "one circle", "--seed", "5", "--out", tmp_path / "out"]
    status, out, _ = run(capsys, *arguments, "--json")
    made = json.loads(out)
    assert status == 0
    assert made["fidelity"] in ("exact", "approximate") and made["seconds"] > 0
    assert Path(made["image"]).parent == tmp_path / "out"
    with Image.open(made["image"]) as image:
        record = json.loads(image.info["flowdesign"])
    assert (record["prompt"], record["seed"]) == ("one circle", 5)
    assert record["reasons"] == made["reasons"] and "torch" in record["renderer"]
    api = json.loads(Path(made["api"]).read_text("utf-8"))
    assert api["2"]["inputs"]["text"] == "one circle" and api["5"]["inputs"]["seed"] == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--seed", "-1"), "whole number"),
        (("--prompt", " "), "prompt is empty"),
    ],
)
def test_render_tells_what_cannot_be(
    tiny: Path, change: tuple[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "render", tiny, "--prompt", "one circle", *change)
    assert status == 2
    assert words in err


# --- training commands


def test_stored_figures_are_printed_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowdesign.zoo.command.FIGURES", tmp_path / "figures.json")
    status, out, _ = run(capsys, "zoo", "--report", "--json")
    assert status == 1 and "zoo --measure" in json.loads(out)["error"]
    figures = {"strict": 0.9, "spread": 0.3}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    status, out, _ = run(capsys, "zoo", "--report", "--json")
    assert (status, json.loads(out)) == (0, figures)
    script = (
        "import sys; from flowdesign.__main__ import main; main(['zoo', '--report', '--json']);"
    )
    assert python("-c", script + "assert 'torch' not in sys.modules").returncode == 0


def test_the_figures_of_a_policy_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "CHECKPOINTS", tmp_path)
    (tmp_path / "mine").mkdir()
    status, out, _ = run(capsys, "sft", "--run", "mine", "--report", "--json")
    assert status == 1 and "sft --measure" in json.loads(out)["error"]
    row = {"samples": 200, "valid": 199, "distinct": 150}
    figures = {"grammar": row, "free": row, "weights": "a1", "step": 3, "measured": "today"}
    runs.write_figures(tmp_path / "mine", figures)
    status, out, _ = run(capsys, "sft", "--run", "mine", "--report", "--json")
    assert (status, json.loads(out)) == (0, figures)
    status, out, _ = run(capsys, "sft", "--run", "mine", "--report")
    assert "200 sentences, 99.5% valid, 75.0% distinct" in out
    monkeypatch.setattr(
        "flowdesign.sft.measuring.measure", lambda folder, *how: figures | {"step": 9}
    )
    status, out, _ = run(capsys, "sft", "--run", "mine", "--measure", "--json")
    assert status == 0 and json.loads(out)["step"] == 9
    assert runs.read_figures(tmp_path / "mine") == json.loads(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_zoo_after_its_step(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(folder: Path) -> runs.Steps:
        for index in range(3):
            if index == 1:
                os.kill(os.getpid(), number)
            yield Step(index, 3)

    def command(config: object, flags: object) -> int:
        (tmp_path / "mine").mkdir()
        assert runs.execute(tmp_path / "mine", work).state == "stopped"
        return 0

    monkeypatch.setattr(training, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr("flowdesign.zoo.command.command", command)
    before = signal.getsignal(number)
    assert main(["zoo", "--run", "mine"]) == 0
    assert signal.getsignal(number) == before
    status = runs.read_status(tmp_path / "mine")
    assert status is not None and status.step == 2


@needs_policy
@needs_models
@pytest.mark.slow
def test_design_prints_valid_workflows() -> None:
    """The shipped policy, through the command a person types."""
    shown = python("-m", "flowdesign", "design", "a red star", "-n", "2", "--seed", "1", "--json")
    assert shown.returncode == 0, shown.stderr
    designs = json.loads(shown.stdout)
    assert len(designs) == 2
    for design in designs:
        assert set(design) == {"workflow", "sentence", "valid", "problems"}
        assert design["valid"] and not design["problems"]
        texts = [
            node["inputs"]["text"]
            for node in design["workflow"].values()
            if node["class_type"] == "CLIPTextEncode"
        ]
        assert any("a red star" in text for text in texts)
