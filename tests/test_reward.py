"""The reward ensemble: its data, its loss, its uncertainty, and the run that trains it."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_toys import REFERENCE, toy_config, toy_records
from safetensors.torch import load_file, save_file
from scipy import stats

from flowdesign import runs
from flowdesign.config import RewardConfig
from flowdesign.records import Record, Vote, split_of_prompt
from flowdesign.records.splits import split_of_workflow
from flowdesign.reward.calibration import LEVELS, calibrate
from flowdesign.reward.data import (
    NO_BALLOTS,
    RewardDataError,
    Table,
    check_table,
    make_table,
    pairs_of,
)
from flowdesign.reward.encoder import Encoder
from flowdesign.reward.ensemble import Ensemble, RewardError, RewardMismatch
from flowdesign.reward.measuring import data_figures
from flowdesign.reward.network import Output, Prior, RewardModel
from flowdesign.reward.readers import EACH, READERS, Shape, Staged
from flowdesign.reward.run import train
from flowdesign.reward.training import (
    Lessons,
    Trainee,
    bootstrap,
    disagreement,
    disorder,
    likelihood,
)
from flowdesign.reward.words import LAST, Words
from flowdesign.sampling import padded
from flowdesign.tokens import VOCABULARY, Vocabulary, VocabularyMismatch

TOKENS = len(VOCABULARY.tokens)


@pytest.fixture(scope="module")
def config(encoder: str) -> RewardConfig:
    return toy_config(encoder)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(toy_records(60, 8, seeds=2))


@pytest.fixture(scope="module")
def table(records: list[Record], config: RewardConfig) -> Table:
    return make_table(records, (), config, REFERENCE)


@pytest.fixture(scope="module")
def trained(config: RewardConfig, table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    runs.prepare(folder, config)
    runs.execute(folder, lambda place: train(config, place, table))
    return folder


# --- data ------------------------------------------------------------------------------------------


def test_a_table_holds_standardised_scores_and_their_weighted_sum(
    records: list[Record], table: Table
) -> None:
    first = records[0].scores
    soft, sharp = (first["scene_soft"] - 0.5) / 0.3, (first["sharpness"] - 0.5) / 0.2
    assert table.heads == ("combined", "scene_soft", "sharpness")
    assert table.scores["scene_soft"][0] == pytest.approx(soft)
    assert table.combined[0] == pytest.approx(soft + 0.25 * sharp)
    assert table.prompts[table.prompt[0]] == records[0].prompt
    assert len(table) == len(records)


def test_a_held_out_scorer_is_never_a_head(records: list[Record], config: RewardConfig) -> None:
    judged = [replace(one, scores={**one.scores, "scene_strict": 1.0}) for one in records[:9]]
    assert "scene_strict" not in make_table(judged, (), config, REFERENCE).heads


def test_training_rows_meet_no_held_out_prompt_and_no_held_out_sentence(table: Table) -> None:
    training = table.take(table.training)
    assert {table.prompt_split[p] for p in training.prompt} == {"train"}
    assert {table.sentence_split[s] for s in training.sentence} == {"train"}
    validation = table.take(table.validation)
    assert {table.prompt_split[p] for p in validation.prompt} == {"validation"}
    assert "test" not in {table.sentence_split[s] for s in validation.sentence}


def test_failures_and_foreign_records_teach_nothing(
    records: list[Record], config: RewardConfig, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [
        replace(records[0], failure="out of memory"),
        replace(records[0], sentence=""),
        replace(records[0], sentence="<sampler:of_tomorrow>"),
        replace(records[0], scores={"scene_soft": 1.0}),
        replace(records[0], scores={"scene_soft": math.nan, "sharpness": 1.0}),
    ]
    with pytest.raises(RewardDataError, match="None of 5 records can teach"):
        make_table(odd, (), config, REFERENCE)
    with pytest.raises(RewardDataError, match=r"no records to learn from\. Collect some"):
        make_table([], (), config, REFERENCE)
    with caplog.at_level("WARNING"):
        assert len(make_table([*odd, records[0]], (), config, REFERENCE)) == 1
    assert "5 of 6 records teach nothing: each must be a rendered workflow" in caplog.text


def test_the_digest_is_of_what_is_learned_from(records: list[Record], config: RewardConfig) -> None:
    def digest(some: list[Record]) -> str:
        return make_table(some, (), config, REFERENCE).digest

    def changed(split: str) -> list[Record]:
        at = next(
            at
            for at, one in enumerate(records)
            if {split_of_prompt(one.prompt), split_of_workflow(one.workflow)} == {split}
        )
        other = replace(records[at], scores={"scene_soft": 0.9, "sharpness": 0.1})
        return [*records[:at], other, *records[at + 1 :]]

    assert digest(records) == digest(records[::-1]) == digest(changed("test"))
    assert digest(records) != digest(changed("train"))


def test_votes_on_held_out_prompts_and_workflows_are_no_part_of_what_is_learned_from(
    records: list[Record], config: RewardConfig
) -> None:
    def told(split: str) -> Table:
        """With a vote between the first two workflows of a prompt that are all of this split."""
        alike = [
            one
            for one in records
            if {split_of_prompt(one.prompt), split_of_workflow(one.workflow)} == {split}
        ]
        left, right = next(
            (a, b)
            for a in alike
            for b in alike
            if a.prompt == b.prompt and a.sentence != b.sentence
        )
        vote = Vote(left.id or 0, right.id or 0, "left", "ann", split)
        return make_table(records, [vote], config, REFERENCE)

    none = make_table(records, (), config, REFERENCE)
    test, train = told("test"), told("train")
    assert len(test.ballots) == len(train.ballots) == len(train.teaching) == 1
    assert len(test.teaching) == 0 and data_figures(test)["votes"] == 0
    assert test.digest == none.digest != train.digest


def test_votes_become_pairs_of_sentences(records: list[Record], config: RewardConfig) -> None:
    ids = [one.id or 0 for one in records]  # of 2 seeds each: 0 and 1 are one pair
    votes = [
        Vote(ids[0], ids[2], "left", "ann", "a"),
        Vote(ids[0], ids[2], "right", "bob", "b"),
        Vote(ids[0], ids[2], "tie", "ann", "c"),
        Vote(ids[0], ids[2], "skip", "ann", "d"),
        Vote(ids[0], ids[1], "left", "ann", "e"),  # two seeds of the same workflow
        Vote(ids[0], 10**6, "left", "ann", "f"),  # a record that is not here
    ]
    found = make_table(records, votes, config, REFERENCE).ballots
    assert found.left.tolist() == [0, 1, 0]
    assert found.right.tolist() == [1, 0, 1]
    assert found.tie.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda t: t.take(t.training[t.prompt[t.training] == t.prompt[t.training[0]]]), "1 prompt"),
        (lambda t: t.take(np.zeros(0, np.int64)), "0 prompts"),
        (
            lambda t: replace(t, scores={**t.scores, "combined": np.ones(len(t))}),
            "the same combined",
        ),
        (lambda t: t.take(t.training), "no validation prompts"),
    ],
)
def test_data_that_cannot_teach_are_refused_with_the_reason(
    table: Table, spoil: object, complaint: str
) -> None:
    with pytest.raises(RewardDataError, match=complaint):
        check_table(spoil(table))  # type: ignore[operator]


def test_an_unknown_source_is_named(records: list[Record], config: RewardConfig) -> None:
    with pytest.raises(RewardDataError, match="Did you mean 'toys'"):
        make_table(records, (), config.model_copy(update={"source": "toyz"}), REFERENCE)


# --- loss ------------------------------------------------------------------------------------------


def test_the_likelihood_is_that_of_every_image(table: Table) -> None:
    """Sums over seeds give what torch's normal distribution gives image by image."""
    rows = table.training
    lessons = Lessons.of(table, rows)
    pairs, images = pairs_of(table.take(rows))
    torch.manual_seed(0)
    mean, noise = torch.randn(len(pairs), 3), torch.rand(len(pairs), 3) + 0.2
    weights = torch.ones(len(pairs))
    found = likelihood(Output(mean, noise), lessons, np.arange(len(pairs)), weights, beta=0.0)
    expected = 0.0
    for head, (name, weight) in enumerate(zip(table.heads, (1.0, 0.25, 0.25), strict=True)):
        scores = table.take(rows).scores[name]
        for pair, members in enumerate(images):
            normal = torch.distributions.Normal(mean[pair, head], noise[pair, head])
            logs = normal.log_prob(torch.tensor(scores[members])) + 0.5 * math.log(2 * math.pi)
            expected -= weight * float(logs.sum())
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_beta_gives_hard_pairs_the_gradient_of_a_squared_error(table: Table) -> None:
    """With beta 1 the mean's gradient is that of half a squared error, whatever the noise."""
    lessons = Lessons.of(table, table.training)
    mean = torch.zeros(1, 3, requires_grad=True)
    noise = torch.tensor([[0.1, 3.0, 1.0]])
    likelihood(Output(mean, noise), lessons, np.array([0]), torch.ones(1), beta=1.0).backward()
    expected = -lessons.total[0] * torch.tensor([1.0, 0.25, 0.25])
    assert mean.grad is not None
    assert torch.allclose(mean.grad[0], expected, rtol=1e-4)


def test_disorder_is_thurstones_model_of_each_prompts_workflows() -> None:
    """Of five pairs of two prompts, one rendered twice; the last two scored the same."""
    score, images = np.array([1.0, 0.5, -1.0, 0.3, 0.3]), np.array([1, 2, 1, 1, 1])
    mean, noise = np.array([0.8, 0.9, -0.5, 2.0, 0.0]), np.array([0.3, 0.4, 0.2, 0.1, 0.1])
    weights = np.array([1.0, 2.0, 3.0, 1.0, 1.0])
    column = [
        torch.tensor(values, dtype=torch.float32)[:, None] for values in (images, score * images)
    ]
    lessons = Lessons(
        np.array([4, 4, 4, 7, 7]), np.arange(5), *column, column[1], (), (), NO_BALLOTS
    )
    learned = torch.tensor(mean, dtype=torch.float32)[:, None].requires_grad_()
    output = Output(learned, torch.tensor(noise, dtype=torch.float32)[:, None])
    order = [3, 0, 2, 1, 4]
    found = disorder(
        Output(output.mean[order], output.noise[order]), lessons, np.array(order),
        torch.tensor(weights[order], dtype=torch.float32),
    )  # fmt: skip
    total = 0.0
    for better, worse in ((0, 1), (0, 2), (1, 2)):
        sd = np.hypot(*(noise[at] / np.sqrt(images[at]) for at in (better, worse)))
        logs = stats.norm.logcdf((mean[better] - mean[worse]) / sd)
        total -= weights[better] * weights[worse] * logs
    assert found.item() == pytest.approx(total / (2 + 3 + 6), rel=1e-5)
    found.backward()
    assert (
        learned.grad is not None and (learned.grad[:, 0] != 0).tolist() == [True] * 3 + [False] * 2
    )
    alone = np.array([0, 3])
    apart = Output(output.mean[alone], output.noise[alone])
    assert disorder(apart, lessons, alone, torch.ones(2)).item() == 0


def test_a_missing_score_counts_for_nothing(records: list[Record], config: RewardConfig) -> None:
    some = [replace(r, scores={**r.scores, "extra": math.nan if i % 3 == 0 else 1.0 + i})
            for i, r in enumerate(records)]  # fmt: skip
    reference = replace(
        REFERENCE, standards={**REFERENCE.standards, "extra": REFERENCE["sharpness"]}
    )
    table = make_table(some, (), config, reference)
    lessons = Lessons.of(table, table.training)
    assert table.heads == ("combined", "extra", "scene_soft", "sharpness")
    assert lessons.count[:, 1].sum() < lessons.count[:, 0].sum()
    assert torch.isfinite(lessons.total).all() and torch.isfinite(lessons.squares).all()


def test_disagreement_is_davidsons_model() -> None:
    better, worse = torch.tensor([1.0, 0.2, -1.0]), torch.tensor([0.0, 0.1, 1.0])
    tie = torch.tensor([False, True, False])
    sharpness, ties = math.log(1.5), math.log(0.7)
    p, q = np.exp(1.5 * better.numpy()), np.exp(1.5 * worse.numpy())
    drawn = 0.7 * np.sqrt(p * q)
    chance = np.where(tie.numpy(), drawn, p) / (p + q + drawn)
    found = disagreement(better, worse, tie, torch.tensor(sharpness), torch.tensor(ties))
    assert float(found) == pytest.approx(-np.log(chance).mean(), rel=1e-5)


def test_members_learn_from_different_samples(config: RewardConfig, table: Table) -> None:
    lessons = Lessons.of(table, table.training)
    one, other = (bootstrap(config, lessons, member) for member in (0, 1))
    assert (one != other).any() and (one == bootstrap(config, lessons, 0)).all()
    assert one.mean() == pytest.approx(config.sample, rel=0.25)
    once = bootstrap(config.model_copy(update={"sample": 1.0}), lessons, 0)
    assert once.mean() == pytest.approx(1, abs=0.25) and (once == 0).mean() > (one == 0).mean()
    by_prompt = bootstrap(config.model_copy(update={"bootstrap": "prompts"}), lessons, 0)
    assert all(len(set(by_prompt[lessons.prompt == p])) == 1 for p in set(lessons.prompt))
    assert set(bootstrap(config.model_copy(update={"bootstrap": "none"}), lessons, 0)) == {1}


def test_votes_alone_can_teach(config: RewardConfig, records: list[Record]) -> None:
    """A member that only sees votes comes to agree with them."""
    votes = []
    for at in range(0, len(records) - 2, 2):
        left, right = records[at], records[at + 2]
        if left.prompt == right.prompt:
            wins = left.scores["scene_soft"] > right.scores["scene_soft"]
            votes.append(
                Vote(left.id or 0, right.id or 0, "left" if wins else "right", "a", str(at))
            )
    table = make_table(records, votes, config, REFERENCE)
    flat = replace(table, scores={n: np.zeros(len(table)) for n in table.scores})
    lessons = Lessons.of(flat, flat.training)
    busy = config.model_copy(update={"vote_weight": 20.0, "steps": 60, "rate": 5e-3})
    torch.manual_seed(0)
    model = RewardModel(Encoder.load(config.encoder).copy("lora", 2), _shape())
    trainee = Trainee(busy, 0, model, lessons)
    told = [trainee.step(index)["votes"] for index in range(60)]
    assert np.mean(told[-5:]) < 0.8 * np.mean(told[:5])


def test_a_step_takes_some_prompts_of_those_whose_workflows_score_best(
    config: RewardConfig, table: Table
) -> None:
    """The fifth with the highest mean score is met more often than the others, if it is asked for."""
    lessons = Lessons.of(table, table.training)
    scores = (lessons.total[:, 0] / lessons.count[:, 0]).numpy()

    def met(promising: int) -> float:
        some = config.model_copy(update={"promising": promising, "prompts": 2, "bootstrap": "none"})
        trainee = Trainee(some, 0, RewardModel(Encoder.load(config.encoder), _shape()), lessons)
        return float(np.mean([scores[trainee.batch(index)].mean() for index in range(60)]))

    assert met(2) > met(0) + 0.1


def test_the_average_follows_the_weights_and_is_what_is_judged(
    config: RewardConfig, table: Table
) -> None:
    lessons = Lessons.of(table, table.training)
    torch.manual_seed(0)
    model = RewardModel(Encoder.load(config.encoder).copy("lora", 2), _shape())
    trainee = Trainee(config.model_copy(update={"averaging": 0.5}), 0, model, lessons)
    name = "head.weight"
    seen = []
    for index in range(3):
        trainee.step(index)
        seen.append(model.learned()[name].detach().clone())
    expected = 0.5 * (0.5 * (seen[0] + seen[1])) + 0.5 * seen[2]  # a plain mean until it is 1/2
    assert torch.allclose(trainee.average[name], expected)
    with trainee.averaged() as judged:
        assert torch.equal(judged.learned()[name], trainee.average[name])
    assert torch.equal(model.learned()[name], seen[2])


def test_dropout_depends_on_the_step_alone_and_only_learning_has_it(
    config: RewardConfig, table: Table
) -> None:
    lessons = Lessons.of(table, table.training)

    def losses(share: float, steps: list[int]) -> list[float]:
        torch.manual_seed(0)
        shape = replace(_shape(), dropout=share)
        model = RewardModel(Encoder.load(config.encoder).copy("lora", 2), shape)
        still = config.model_copy(update={"rate": 1e-12, "encoder_rate": 1e-12, "decay": 0.0})
        trainee = Trainee(still, 0, model, lessons)
        found = []
        for index in steps:
            torch.rand(3)  # as another member's thread may draw between
            found.append(trainee.step(index)["loss"])
        prompts = model.read_prompts(["a red star"])
        with torch.no_grad():
            one, other = (model(prompts, torch.tensor([0]), padded([(1, 2)])) for _ in range(2))
        assert torch.equal(one.mean, other.mean)
        return found

    assert losses(0.3, [0, 1]) == pytest.approx([*losses(0.3, [0]), *losses(0.3, [1])], abs=1e-6)
    assert losses(0.3, [0]) != losses(0.0, [0])


# --- network ---------------------------------------------------------------------------------------


def _shape(reader: str = "pooled", prior: float = 0.5) -> Shape:
    return Shape(reader, TOKENS, 3, 32, 2, prior)


@pytest.mark.parametrize("reader", [*READERS])
def test_a_prediction_does_not_depend_on_its_company(encoder: str, reader: str) -> None:
    """Padding of prompts and of sentences changes nothing."""
    torch.manual_seed(1)
    model = RewardModel(Encoder.load(encoder).copy("lora", 2), _shape(reader))
    passes = (
        "<pass:latent>",
        "<model:base>",
        "<cfg:4>",
        "<pass:pixel>",
        "<cfg:7>",
        "<resize:area>",
    )
    short = tuple(_ids("<ckpt:mini_night>", "<cfg:7>", *passes[:3], "<end>")[0, 1:].tolist())
    long = tuple(_ids("<ckpt:mini_flat>", "<cfg:7>", *passes, "<end>")[0, 1:].tolist())
    both = model.read_prompts(["a red star", "a blue circle left of a green star, night style"])
    alone = model.read_prompts(["a red star"])
    with torch.no_grad():
        together = model(both, torch.tensor([0, 1]), padded([short, long]))
        single = model(alone, torch.tensor([0]), padded([short]))
    assert torch.allclose(together.mean[0], single.mean[0], atol=1e-5)
    assert torch.allclose(together.noise[0], single.noise[0], atol=1e-5)


@pytest.mark.parametrize("reader", [*READERS])
def test_prompt_and_sentence_both_matter(encoder: str, reader: str) -> None:
    torch.manual_seed(1)
    model = RewardModel(Encoder.load(encoder).copy("lora", 2), _shape(reader, prior=0.0))
    prompts = model.read_prompts(["a red star", "a blue circle"])
    with torch.no_grad():
        means = model(prompts, torch.tensor([0, 1, 0]), padded([(1, 2), (1, 2), (1, 3)])).mean
    assert len({tuple(row) for row in means.round(decimals=6).tolist()}) == 3


def test_a_word_says_what_it_says_where_it_stands() -> None:
    torch.manual_seed(0)
    words = Words(TOKENS, 8, 0.5, EACH)
    begin = TOKENS

    def vectors(*said: str) -> list[list[float]]:
        ids = [begin, *(VOCABULARY.index(word) for word in said)]
        given = torch.tensor([ids])
        found: list[list[float]] = words(given, words.stages(given))[0].detach().tolist()
        return found[1:]

    first, _, second = vectors("<cfg:7>", "<pass:latent>", "<cfg:7>")
    assert first != second
    _, _, _, third = vectors("<cfg:7>", "<pass:latent>", "<pass:pixel>", "<cfg:7>")
    assert third not in (first, second)
    _, dusk, _, crowd = vectors(
        "<lora:flat_dusk>", "<strength:0.8>", "<lora:night_crowd>", "<strength:0.8>"
    )
    assert dusk != crowd
    (_, _, _, again) = vectors("<steps:8>", "<cfg:4>", "<lora:flat_dusk>", "<strength:0.8>")
    assert again == dusk  # wherever it stands
    many = ["<pass:latent>"] * 9
    assert np.isfinite(vectors(*many, "<cfg:7>")).all()


def _ids(*said: str) -> torch.Tensor:
    return torch.tensor([[TOKENS, *(VOCABULARY.index(word) for word in said)]])


def test_a_word_speaks_in_its_stage() -> None:
    words = Words(TOKENS, 8, 0.5, EACH)
    said = _ids(
        "<ckpt:mini_flat>", "<size:64x64>", "<cfg:7>", "<pass:pixel>", "<upscaler:mini_2x>", "<scale:0.75>",
        "<model:base>", "<cfg:7>", "<pass:latent>", "<scale:1.5>", "<cfg:4>", "<upscaler:mini_2x>", "<end>",
    )  # fmt: skip
    assert words.stages(said).tolist() == [[0] * 4 + [1] * 5 + [2] * 3 + [LAST, 2]]
    refined = _ids("<cfg:7>", "<pass:refine>", "<cfg:5>", "<resize:area>", "<scale:1.25>")
    assert words.stages(refined).tolist() == [[0, 0, 1, 1, LAST, LAST]]


def test_the_base_model_of_a_pass_is_the_checkpoint() -> None:
    torch.manual_seed(0)
    words = Words(TOKENS, 8, 0.5, Staged.roles)

    def base(checkpoint: str, *after: str) -> torch.Tensor:
        said = _ids(checkpoint, "<cfg:7>", "<pass:latent>", "<model:base>", *after)
        vector: torch.Tensor = words(said, words.stages(said))[0, 4]
        return vector

    with torch.no_grad():
        flat, night = base("<ckpt:mini_flat>"), base("<ckpt:mini_night>")
        named = [VOCABULARY.index(f"<model:mini_{name}>") for name in ("flat", "night")]
        apart = words.rows.weight[named[0]] - words.rows.weight[named[1]]
        assert apart.abs().max() > 0.1
        assert torch.allclose(flat - night, apart, atol=1e-6)
        # What follows, or padding, which has id 0, is not taken for a checkpoint.
        assert torch.equal(base("<ckpt:mini_flat>", "<ckpt:mini_night>"), flat)
        assert torch.equal(base("<cfg:4>", "<ckpt:mini_flat>"), base("<cfg:4>"))


def test_a_staged_reader_reads_later_passes_by_one_network_in_their_order(encoder: str) -> None:
    torch.manual_seed(0)
    words = Words(TOKENS, 8, 0.5, Staged.roles)
    latent = ("<pass:latent>", "<scale:1.5>", "<model:base>", "<cfg:4>")
    pixel = ("<pass:pixel>", "<scale:1.5>", "<model:mini_night>", "<cfg:9>")
    begin = ("<ckpt:mini_flat>", "<cfg:7>")
    vectors = words(said := _ids(*begin, *latent, *latent), words.stages(said))[0]
    assert torch.equal(vectors[3:7], vectors[7:11])
    model = RewardModel(Encoder.load(encoder).copy("lora", 2), _shape("staged", prior=0.0))
    prompts, which = model.read_prompts(["a red star"]), torch.tensor([0])

    def mean(*passes: str) -> torch.Tensor:
        with torch.no_grad():
            return model(prompts, which, _ids(*begin, *passes)[:, 1:]).mean[0]

    read = [mean(), mean(*latent), mean(*pixel), mean(*latent, *pixel), mean(*pixel, *latent)]
    read.append(mean(*latent, "<resize:area>", "<scale:1.25>"))
    for one, other in itertools.combinations(read, 2):
        assert not torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("tuning", "learns"), [("lora", True), ("full", True), ("frozen", False)])
def test_members_share_only_what_nothing_changes(encoder: str, tuning: str, learns: bool) -> None:
    base = Encoder.load(encoder)
    models = [RewardModel(base.copy(tuning, 2), _shape()) for _ in range(2)]  # type: ignore[arg-type]
    first, second = ({id(w) for w in model.learned().values()} for model in models)
    assert not first & second
    assert any(name.startswith("encoder.") for name in models[0].learned()) == learns
    shared = {id(w) for w in models[0].parameters()} & {id(w) for w in models[1].parameters()}
    assert bool(shared) == (tuning != "full")


def test_the_prior_has_the_size_it_says_and_is_not_learned() -> None:
    torch.manual_seed(0)
    prior = Prior(Shape("pooled", TOKENS, 3, 32, 2, 0.5))
    sentences = padded(
        [tuple(np.random.default_rng(i).permutation(TOKENS)[:30]) for i in range(500)]
    )
    marks = torch.randn(500, 64)
    added = prior(marks, sentences, sentences >= 0)
    assert float(added.std()) == pytest.approx(0.5, rel=0.25)
    assert not list(prior.parameters())


# --- ensemble --------------------------------------------------------------------------------------


def test_an_ensemble_says_the_same_after_saving(trained: Path, table: Table) -> None:
    ensemble, again = Ensemble.load(trained), Ensemble.load(trained, threads=2)
    prompts, sentences = table.texts(pairs_of(table)[0][:50])
    one, other = ensemble.predict(prompts, sentences), again.predict(prompts, sentences)
    assert np.array_equal(one.mean, other.mean) and np.array_equal(one.spread, other.spread)
    single = again.predict(prompts[3:4], sentences[3:4])
    assert single.mean[0] == pytest.approx(one.mean[3], abs=1e-5)
    assert (one.low <= one.mean).all() and (one.mean <= one.high).all()
    assert np.allclose(one.lower(2.0), one.mean - 2 * one.spread)
    assert set(one.heads) == {"scene_soft", "sharpness"}


def test_mean_and_spread_are_of_the_members(trained: Path, table: Table) -> None:
    ensemble = Ensemble.load(trained)
    prompts, sentences = table.texts(pairs_of(table)[0][:7])
    means, noises = ensemble.members_of(prompts, sentences)
    found = ensemble.predict(prompts, sentences)
    assert means.shape == (2, 7, 3)
    assert np.allclose(found.mean, means[:, :, 0].mean(0))
    assert np.allclose(found.spread, np.abs(means[0, :, 0] - means[1, :, 0]) / math.sqrt(2))
    assert np.allclose(found.noise, np.sqrt((noises[:, :, 0] ** 2).mean(0)))


def test_what_cannot_be_judged_is_told(trained: Path) -> None:
    ensemble = Ensemble.load(trained)
    with pytest.raises(RewardMismatch, match="empty sentence"):
        ensemble.predict(["a"], [()])
    with pytest.raises(RewardMismatch, match="before the word"):
        ensemble.predict(["a"], [(TOKENS + 5,)])
    with pytest.raises(RewardMismatch, match="one prompt for each"):
        ensemble.predict(["a", "b"], [(1,)])
    assert len(ensemble.predict([], []).mean) == 0
    for prompt in ("", "\ud800", "x" * 10_000, "\N{SNOWMAN}"):
        assert np.isfinite(ensemble.predict([prompt], [(1, 2)]).mean).all()


def test_a_folder_that_is_no_ensemble_is_told(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"reward\.json, vocab\.json missing"):
        Ensemble.load(tmp_path)
    for path in trained.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "member_1.safetensors").write_bytes(b"cut short")
    with pytest.raises(RewardError, match=r"member_1\.safetensors cannot be used"):
        Ensemble.load(tmp_path)
    for damaged in ("{}", "null", '"text"', "[]", "3", "{"):
        (tmp_path / "reward.json").write_text(damaged)
        with pytest.raises(RewardError, match="damaged"):
            Ensemble.load(tmp_path)
    first, second, *others = VOCABULARY.tokens
    swapped = Vocabulary([second, first, *others])
    (tmp_path / "vocab.json").write_text(swapped.to_json(), encoding="utf-8")
    with pytest.raises(VocabularyMismatch, match="another vocabulary"):
        Ensemble.load(tmp_path)


def test_another_architecture_is_refused(trained: Path, tmp_path: Path) -> None:
    for path in trained.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "member_0.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, tmp_path / "member_0.safetensors")
    with pytest.raises(RewardError, match="another architecture"):
        Ensemble.load(tmp_path)


def test_calibration_covers_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    mean, sd = rng.normal(size=4000), rng.uniform(0.2, 1, 4000)
    score = mean + sd * (rng.exponential(size=4000) - 1)  # skewed, and not the normal's width
    known, new = slice(0, 2000), slice(2000, None)
    calibration = calibrate(score[known], mean[known], sd[known])
    for level in LEVELS:
        low, high = calibration.interval(mean[new], sd[new], level)
        inside = (low <= score[new]) & (score[new] <= high)
        assert inside.mean() == pytest.approx(level, abs=0.035)
    with pytest.raises(ValueError, match="not calibrated"):
        calibration.interval(mean, sd, 0.123)
    with pytest.raises(ValueError, match="no validation images"):
        calibrate(mean[:0], mean[:0], sd[:0])


def test_members_guess_differently_at_words_that_they_never_met() -> None:
    """As words of the same group that they met, with the strengths behind them; others stay."""
    loras = [at for at, word in enumerate(VOCABULARY.words) if word.group == "lora"]
    new, *known = loras
    met = set(range(TOKENS)) - {new}
    strength = next(at for at, word in enumerate(VOCABULARY.words) if word.group == "strength")
    said = []
    for member in range(3):
        torch.manual_seed(0)
        words = Words(TOKENS, 8, 1.0, EACH)
        ids, stages = torch.tensor([[TOKENS, new, strength]]), torch.zeros(1, 3, dtype=torch.long)
        before = words(torch.tensor([[TOKENS, known[0], strength]]), stages)
        words.guess(met, member)
        assert torch.equal(words(torch.tensor([[TOKENS, known[0], strength]]), stages), before)
        alike = [words(torch.tensor([[TOKENS, one, strength]]), stages) for one in known]
        said.append(words(ids, stages))
        assert sum(torch.equal(said[-1], one) for one in alike) == 1
    assert not torch.equal(said[0], said[1]) and not torch.equal(said[1], said[2])
