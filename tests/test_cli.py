"""The command line: what it prints, its exit status, and that it starts in a moment."""

import json
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shipped import needs_models, needs_policy
from toys import every_model

from flowdesign import comfy
from flowdesign.__main__ import main
from flowdesign.catalog import known_assets
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence
from flowdesign.workflow import Workflow, bind

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("design", "render", "validate", "zoo", "sft")


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


def test_help_answers_in_under_a_second_without_torch() -> None:
    started = cpu_seconds()  # of the processor: a busy machine is no fault of ours
    shown = python("-m", "flowdesign", "--help")
    seconds = cpu_seconds() - started
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in COMMANDS)
    assert seconds < 1
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
