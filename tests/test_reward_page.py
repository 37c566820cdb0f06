"""The reward ensemble on the page: its card in Train, asking it about a prompt, predictions in Data."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gradio as gr
import numpy as np
import pytest
from data_toys import filled
from PIL import Image
from studio_toys import ToyPolicy, ToyRenderer, toy_studio
from waiting import until

from flowdesign import runs
from flowdesign.access import AccessConfig, Person
from flowdesign.catalog import known_assets
from flowdesign.config import RewardConfig, build
from flowdesign.records import COMBINED, PREDICTED, PREDICTED_HIGH, PREDICTED_LOW, Filter, Store
from flowdesign.request import Request
from flowdesign.reward.pictures import FOLDER, keep_pictures, picture_name, save_picture
from flowdesign.studio import Designed, Rendered
from flowdesign.tokens import VOCABULARY, parse_sentence
from flowdesign.ui import cards, plots, record_view, reward_card
from flowdesign.ui.critics import Critics
from flowdesign.ui.data import Data, Place
from flowdesign.ui.data_filter import BLANK
from flowdesign.ui.data_predict import expected_of
from flowdesign.ui.files import Exports
from flowdesign.ui.gate import Gate
from flowdesign.ui.jobs import Jobs
from flowdesign.ui.reward_explain import Explain
from flowdesign.ui.shared import SharedStore
from flowdesign.ui.train_kinds import KINDS

OWNER = Person("owner")
HIGH = VOCABULARY.index("<cfg:7>")


class ToyCritic:
    """Likes a cfg of 7 and long prompts; knows every word below `words`."""

    weights: ClassVar[dict[str, float]] = {"sharpness": 1.0}

    def __init__(self, words: int = len(VOCABULARY.tokens)) -> None:
        self.words, self.asked = words, 0

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Any:
        self.asked += 1
        if any(token >= self.words for sentence in sentences for token in sentence):
            raise ValueError("This ensemble was trained before that word.")
        mean = np.array([HIGH in s for s in sentences], float)
        mean += np.array([len(prompt) / 1000 for prompt in prompts])
        return SimpleNamespace(mean=mean, low=mean - 1, high=mean + 1, lower=lambda: mean - 0.5)


class ToyCritics(Critics):
    """A toy critic as the installed ensemble, and in every folder."""

    def __init__(self, critic: Any) -> None:
        super().__init__(Path("/nowhere"))
        self.critic = critic

    def usual(self) -> Any:
        return self.critic

    at_hand = usual

    def of(self, folder: Path) -> Any:
        return self.critic


# --- the card


def figure(value: float | None, low: float | None = None, high: float | None = None) -> Any:
    return {"value": value, "low": low, "high": high}


def figures() -> dict[str, Any]:
    """The figures of a small report."""
    ours = dict.fromkeys(
        ("within_spearman", "pair_accuracy", "spearman", "explained", "regret", "regret_share",
         "within_of_ceiling", "coverage", "width", "spread_error"),
        figure(0.81, 0.78, 0.84),
    )  # fmt: skip
    seeds = ("within_spearman", "total_variance", "seed_variance", "explainable_variance")
    miss = {
        "record": 1, "prompt": "a <red> star", "sentence": [HIGH], "seed": 3, "images": 2,
        "true": -1.0, "predicted": 1.0, "low": 0.0, "high": 2.0,
    }  # fmt: skip
    part = {
        "size": {"images": 9, "pairs": 4, "prompts": 2, "workflows": 3},
        "ceilings": dict.fromkeys(seeds, figure(0.9)),
        "ensemble": ours,
        "baselines": {"ridge": ours | {"within_spearman": figure(None)}},
        "scatter": [[0.0, 0.5, 1], [1.0, 1.5, 2], [None, 1.0, 1]],
        "calibration": [{"nominal": 0.5, "actual": 0.4}, {"nominal": 0.9, "actual": 0.88}],
        "misses": [miss],
    }
    nothing = part | {"size": {"images": 0, "pairs": 0, "prompts": 0, "workflows": 0}}
    return {
        "parts": {"unseen prompts": nothing, "both unseen": part},
        "bars": [
            {"name": "coverage", **figure(0.7, 0.6, 0.8), "bound": "0.85 to 0.95", "reached": False}
        ],
        "growth": {"prompts": figure(2.0, 1.8, 2.2)},
    }


def test_a_run_that_was_not_measured_has_no_card(tmp_path: Path) -> None:
    assert reward_card.report(tmp_path) == ""
    runs.write_figures(tmp_path, {"loss": 1.0})
    assert reward_card.report(tmp_path) == ""
    (tmp_path / "figures.json").write_text("{")
    assert reward_card.report(tmp_path) == ""


def test_the_card_shows_bars_rivals_plots_and_misses(tmp_path: Path) -> None:
    runs.write_figures(tmp_path, figures())
    card = reward_card.report(tmp_path)
    assert "not reached" in card and "0.700 (0.600 to 0.800)" in card
    assert "2.000 (1.800 to 2.200) times as large for prompts of another world" in card
    assert '<th scope="col">ridge</th>' in card and "cannot say" in card
    assert card.count("<circle") == 2 + 2  # the pair without a prediction is left out
    assert "Both unseen: 9 images" in card and "Unseen prompts" not in card
    assert "a &lt;red&gt; star" in card and "&lt;cfg:7&gt;" in card
    assert "outside" in card and "no image kept" in card


def test_the_card_follows_the_figures(tmp_path: Path) -> None:
    runs.write_figures(tmp_path, figures())
    assert "not reached" in reward_card.report(tmp_path)
    better = figures()
    better["bars"][0] |= {"value": 0.9, "reached": True}
    runs.write_figures(tmp_path, better)
    assert "not reached" not in reward_card.report(tmp_path)


def test_the_card_shows_pictures_that_are_drawn_later(tmp_path: Path) -> None:
    """As `shipped pictures` does, which leaves the figures as they are."""
    runs.write_figures(tmp_path, figures())
    assert "data:image/webp" not in reward_card.report(tmp_path)
    miss = figures()["parts"]["both unseen"]["misses"][0]
    save_picture(Image.new("RGB", (8, 8)), tmp_path / FOLDER, miss)
    assert "data:image/webp" in reward_card.report(tmp_path)


@pytest.mark.parametrize("scatter", ["x", [[1]], [{}], None])
def test_figures_of_another_version_are_told(tmp_path: Path, scatter: object) -> None:
    odd = figures()
    odd["parts"]["both unseen"]["scatter"] = scatter
    runs.write_figures(tmp_path, odd)
    assert "figures are of another version" in reward_card.report(tmp_path)


def test_the_reward_kind_has_the_card() -> None:
    (kind,) = (kind for kind in KINDS if kind.name == "reward")
    assert kind.report is reward_card.report


def test_pictures_of_misses_are_kept_and_shown(tmp_path: Path) -> None:
    found = figures()
    miss = found["parts"]["both unseen"]["misses"][0]
    with filled(tmp_path / "records", 3) as store:
        one, other = store.find(Filter(has_image=True)).rows[:2]
    miss |= {"record": one.id, "prompt": one.prompt, "seed": one.seed}
    old = tmp_path / "run" / FOLDER / "0123456789abcdef.webp"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of an earlier report")
    config = build(RewardConfig, {"records": str(tmp_path / "records")})
    miss["record"] = other.id  # of another store: its image is not that of the miss
    assert keep_pictures(found, config, tmp_path / "run") == 0
    miss["record"] = one.id
    assert keep_pictures(found, config, tmp_path / "run") == 2  # named by both parts
    assert [path.name for path in old.parent.iterdir()] == [picture_name(miss)]
    with Image.open(old.parent / picture_name(miss)) as picture:
        assert picture.size == (64, 64)
    runs.write_figures(tmp_path / "run", found)
    assert "data:image/webp;base64," in reward_card.report(tmp_path / "run")
    shipped = build(RewardConfig, {"records": "shipped"})
    assert keep_pictures(found, shipped, tmp_path / "run") == 0
    assert (old.parent / picture_name(miss)).exists()


def test_a_record_that_has_gone_keeps_no_picture(tmp_path: Path) -> None:
    Store.open(tmp_path / "records").close()
    config = build(RewardConfig, {"records": str(tmp_path / "records")})
    assert keep_pictures(figures(), config, tmp_path) == 0


def test_plots_place_points_and_leave_out_what_is_no_number() -> None:
    drawn = plots.scatter([[0, 0, 1], [1, 1, 1]])
    places = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert places == [("3.7", "96.3"), ("96.3", "3.7")]
    assert plots.scatter([[None, 1, 1], [1, 1, 1]]) == ""
    assert plots.calibration([{"nominal": 0.5, "actual": None}]) == ""
    assert 'cx="50.0" cy="25.0"' in plots.calibration([{"nominal": 0.5, "actual": 0.75}])


def test_a_bar_grows_from_the_middle() -> None:
    assert 'fd-gain" style="left:50.0%;width:25.0%' in plots.bar(0.5, 1.0)
    assert 'fd-loss" style="left:0.0%;width:50.0%' in plots.bar(-2.0, 1.0)
    assert "width:0.0%" in plots.bar(0.0, 0.0)


# --- asking about a prompt


@pytest.fixture
def explain() -> Explain:
    with gr.Blocks():
        place = gr.State()
        found = Explain(ToyCritics(ToyCritic()), Gate(AccessConfig()), known_assets())
        found.connect(place, lambda place: Path("/run") if place else None)
    return found


def test_every_choice_of_a_sentence_is_judged(explain: Explain) -> None:
    drawn = explain.explain("run", "a star", "")
    assert "Expected +1.01" in drawn  # the best of many has a cfg of 7
    (row,) = re.findall(r"<tr>(?:(?!</tr>).)*<code>&lt;cfg:7&gt;</code></th>.*?</tr>", drawn)
    assert "+1.00" in row and "fd-gain" in row
    rows, bars = drawn.count('<th scope="row">'), drawn.count('<td class="fd-both">')
    assert rows == bars > 10


@pytest.mark.parametrize(
    ("prompt", "sentence", "words"),
    [
        ("", "", "The prompt is empty"),
        ("a star", "a sentence", "Tokens are written"),
        ("a star", "<cfg:7>", "not a workflow that runs here"),
        ("a star", "<ckpt:mini_flat>", "it is cut short"),
        ("a star", "<cfg:7.77>", "cfg:7.77"),
    ],
)
def test_what_cannot_be_explained_is_told(
    explain: Explain, prompt: str, sentence: str, words: str
) -> None:
    said = explain.explain("run", prompt, sentence)
    assert words in said and 'role="alert"' in said


def test_a_run_that_has_gone_is_told(explain: Explain) -> None:
    assert "This run is gone" in explain.explain(None, "a star", "")


# --- predictions in Data


def data(store: SharedStore, critic: Any) -> Data:
    with gr.Blocks(), gr.Tabs(), gr.Tab("Data") as place:
        return Data(store, Gate(AccessConfig()), place, Jobs(), Exports(store), ToyCritics(critic))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    filled(tmp_path / "records", 21).close()
    found = SharedStore(tmp_path / "records")
    yield found
    found.close()


def finish(view: Data) -> str:
    job = view.jobs.jobs.shown()[-1]
    until(lambda: not job.open)
    return str(job.said)


def test_predictions_become_a_score_that_records_are_ordered_by(store: SharedStore) -> None:
    view = data(store, ToyCritic())
    view.actions.rescore(OWNER, "all", "", [PREDICTED], *BLANK)
    assert "21 records predicted" in finish(view)
    found = store().find(Filter(scorer=PREDICTED), None, 30, "best").rows
    kept = [row.scores[PREDICTED] for row in found]
    assert len(kept) == 21 and kept == sorted(kept, reverse=True)
    for row in found:  # failed ones too: no image is needed
        high = HIGH in parse_sentence(row.sentence)
        assert row.scores[PREDICTED] == pytest.approx(high + len(row.prompt) / 1000)


def test_a_tile_shows_the_prediction_with_its_interval(store: SharedStore) -> None:
    view = data(store, ToyCritic())
    before = record_view.tiles(store().find(Filter(), None, 30, "newest").rows, None)
    view.actions.rescore(OWNER, "all", "", [PREDICTED], *BLANK)
    finish(view)
    rows = store().find(Filter(), None, 30, "newest").rows
    after = record_view.tiles(rows, None)
    assert "expected" not in before and after.count("expected ") == len(rows)
    low, high = (rows[0].scores[name] for name in (PREDICTED_LOW, PREDICTED_HIGH))
    assert f"({cards.signed(low)} to {cards.signed(high)})" in after


def test_images_are_scored_and_texts_predicted_in_one_job(store: SharedStore) -> None:
    view = data(store, ToyCritic())
    view.actions.rescore(OWNER, "all", "", [PREDICTED, "sharpness"], *BLANK)
    said = finish(view)
    assert "18 records scored by sharpness" in said and "21 records predicted" in said


def test_an_ensemble_that_lacks_a_word_or_is_missing_is_told(store: SharedStore) -> None:
    view = data(store, ToyCritic(words=3))
    view.actions.rescore(OWNER, "all", "", [PREDICTED], *BLANK)
    assert "trained before that word" in finish(view)
    without = data(store, None)
    told = without.actions.rescore(OWNER, "all", "", [PREDICTED], *BLANK)
    assert "no reward ensemble here" in told[without.actions.said]


def test_an_opened_record_shows_what_was_expected_of_it(store: SharedStore) -> None:
    sent = gr.EventData(None, {"record": "1"})
    shown = data(store, ToyCritic()).open_record(Place(), sent)
    card = next(value for key, value in shown.items() if isinstance(value, str))
    assert "expected +" in card
    for critic in (None, ToyCritic(words=3)):
        view = data(store, critic)
        assert "expected" not in view.open_record(Place(), sent)[view.record]


def test_a_record_outside_the_language_is_not_predicted(store: SharedStore) -> None:
    critic = ToyCritic()
    (one,) = store().find(Filter(), None, 1).rows
    odd = replace(one, sentence="")
    unknown = replace(one, sentence="<cfg:7.77>")
    said = expected_of(critic, [odd, one, unknown])
    assert said[0] is None and said[1] is not None and said[2] is None
    assert expected_of(critic, [odd]) == [None] and critic.asked == 1


def test_the_true_score_stands_beside_the_expected_one(store: SharedStore) -> None:
    (one,) = store().find(Filter(has_image=True), None, 1).rows
    (expected,) = expected_of(ToyCritic(), [one])
    opened = record_view.Opened(replace(one, combined=7.0), expected=expected, scored=9.0)
    shown = record_view.opened(opened)
    assert "scored +9.00" in shown and "fd-warn" in shown and COMBINED in shown


# --- the ensembles that the tabs share


def test_without_an_ensemble_there_is_no_critic(tmp_path: Path) -> None:
    folder = tmp_path / "reward"
    critics = Critics(folder)
    assert critics.folder is None and critics.usual() is None and critics.at_hand() is None
    folder.mkdir()
    (folder / "reward.json").write_text("{}")
    assert critics.folder == folder and critics.usual() is None  # damaged: the log says why
    assert critics.at_hand() is None


def test_without_a_shipped_ensemble_the_one_trained_last_is_used(tmp_path: Path) -> None:
    critics = Critics(tmp_path / "reward")
    for age, name in ((100, "old"), (50, "new"), (10, "sft")):
        (tmp_path / name).mkdir()
        if name != "sft":
            (tmp_path / name / "reward.json").write_text("{}")
            os.utime(tmp_path / name / "reward.json", (time.time() - age,) * 2)
    assert critics.folder == tmp_path / "new"
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "reward.json").write_text("{}")
    assert critics.folder == tmp_path / "reward"


def test_an_ensemble_is_loaded_once_and_so_is_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowdesign.reward.ensemble import Ensemble, RewardError

    asked: list[Path] = []

    def load(folder: Path) -> Any:
        asked.append(folder)
        if folder.name == "bad":
            raise RewardError("damaged")
        return ToyCritic()

    monkeypatch.setattr(Ensemble, "load", load)
    critics = Critics(tmp_path / "reward")
    for name in ("reward", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "reward.json").write_text("{}")
    assert critics.at_hand() is None
    assert critics.usual() is critics.usual() is critics.at_hand()
    for _ in range(2):
        with pytest.raises(RewardError, match="damaged"):
            critics.of(tmp_path / "bad")
    assert [folder.name for folder in asked] == ["reward", "bad"]
    os.utime(tmp_path / "reward" / "reward.json", (1, 1))  # another one has been trained there
    critics.usual()
    assert [folder.name for folder in asked] == ["reward", "bad", "reward"]


# --- in the Playground


def designs(tmp_path: Path, critic: Any, ranked: bool) -> list[Any]:
    parts = {"policy": ToyPolicy(), "renderer": ToyRenderer(), "critic": critic}
    return list(toy_studio(tmp_path, **parts).design(Request("a red star", 6, 3, ranked=ranked)))


def test_each_design_is_expected_something_before_it_is_rendered(tmp_path: Path) -> None:
    events = designs(tmp_path, ToyCritic(), ranked=False)
    assert [type(event) for event in events] == [Designed, Rendered] * 6
    for designed, rendered in zip(events[::2], events[1::2], strict=True):
        high = HIGH in parse_sentence(designed.design.sentence)
        assert designed.expected.mean == pytest.approx(high + 0.01) and designed.expected.low < 0.1
        assert rendered.expected == designed.expected


def test_designs_come_best_first_where_that_is_asked(tmp_path: Path) -> None:
    bounds = [e.expected.bound for e in designs(tmp_path, ToyCritic(), True) if type(e) is Designed]
    assert len(set(bounds)) == 2 and bounds == sorted(bounds, reverse=True)
    other = [e.expected.bound for e in designs(tmp_path, ToyCritic(), False) if type(e) is Designed]
    assert sorted(other) == sorted(bounds) and other != bounds


def test_side_by_side_the_rows_are_ranked_by_their_last_design(tmp_path: Path) -> None:
    asked = Request("a red star", 4, 4, policy="mine", scale=2.0, beside=True)
    studio = toy_studio(tmp_path, critic=ToyCritic())
    plain, rows = (
        [e for e in studio.design(replace(asked, ranked=how)) if isinstance(e, Rendered)]
        for how in (False, True)
    )
    assert [event.design.scale for event in rows] == [0.0, 1.0, 2.0] * 4
    assert [event.index for event in rows] == list(range(12))
    before, bounds = (
        [e.expected.bound for e in each[2::3] if e.expected] for each in (plain, rows)
    )
    assert before[0] < before[-1] and bounds == sorted(before, reverse=True)
    assert [one.design.sentence for one in rows[1::3]] == [
        one.design.sentence for one in rows[2::3]
    ]


@pytest.mark.parametrize("ranked", [True, False])
def test_designs_need_no_ensemble_that_understands_them(tmp_path: Path, ranked: bool) -> None:
    for critic in (None, ToyCritic(words=3)):
        events = designs(tmp_path, critic, ranked)
        assert len(events) == 12 and all(event.expected is None for event in events)
