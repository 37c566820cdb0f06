"""The Results tab: which evaluations it offers, and that it shows their figures, command and examples."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from evaluate_figures import FIGURES
from PIL import Image

from flowdesign import runs
from flowdesign.config import EvaluateConfig, save
from flowdesign.evaluate.pictures import FOLDER, shown
from flowdesign.ui import results
from flowdesign.ui.gate import Gate


def finish(folder: Path, figures: dict[str, Any], updated: float) -> Path:
    folder.mkdir(parents=True)
    head = {"state": "finished", "step": 1, "total": 1, "message": "", "pid": 1, "started": 1.0}
    (folder / "status.json").write_text(json.dumps(head | {"updated": updated}))
    runs.write_figures(folder, figures)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, updated in (("old", 1.0), ("new", 2.0)):
        folder = finish(tmp_path / name, FIGURES, updated)
        save(EvaluateConfig(run=name, seeds=2), folder / "config.json")
    finish(tmp_path / "policy", {"grammar": {}}, 3.0)
    return tmp_path


def test_finished_evaluations_are_offered_the_newest_first(root: Path) -> None:
    assert results.evaluations(root) == ["new", "old"]
    assert results.evaluations(root / "none") == []


def test_the_page_shows_figures_command_curves_and_examples(root: Path) -> None:
    (example,) = FIGURES["examples"]
    ((_, name),) = shown(example)
    (root / "new" / FOLDER).mkdir()
    Image.new("RGB", (8, 8), "red").save(root / "new" / FOLDER / name)
    page = results.page(root / "new", 1)
    assert "python -m flowdesign evaluate --run new --seeds 2" in page
    assert "1.200 (1.100 to 1.300)" in page and "60% (50% to 70%) / 10% / 30%" in page
    assert "79 of 500 distinct" in page and "90% of 60" in page
    assert page.count("<svg") == 5 and "data:image/webp" in page
    assert "a red star, night style" in page and "Where guidance wins most" in page


def test_figures_of_another_version_are_told_and_not_thrown(root: Path) -> None:
    broken = {key: value for key, value in FIGURES.items() if key != "pairs"}
    finish(root / "broken", broken, 4.0)
    assert "Measure again" in results.page(root / "broken", 1)


def test_only_what_is_offered_is_read(root: Path) -> None:
    with gr.Blocks(), gr.Tab("Results") as tab:
        page = results.Results(Gate(), tab, root)
    assert "No evaluation is finished yet" in page.show("../new")
    choice, html = page.refresh("gone")
    assert choice["value"] == "new" and "--run new" in html
    choice, html = page.refresh("old")
    assert choice["value"] == "old" and "--run old" in html
