"""The policy: 4-bit base, token rows, shared prompt prefix, sampling with and without grammar."""

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from shipped import needs_policy
from toys import write_tiny_base

from flowdesign import lm
from flowdesign.catalog import known_assets
from flowdesign.habits import Habits
from flowdesign.policy import (
    ADAPTER,
    SHIPPED,
    Anatomy,
    Policy,
    PolicyError,
    fingerprint,
    grammar_mask,
)
from flowdesign.rows import spoken
from flowdesign.runs import read_figures
from flowdesign.sampling import Cancelled, Draw, Unconstrained, choose, say
from flowdesign.sft.measuring import validity
from flowdesign.tokens import (
    VOCABULARY,
    Automaton,
    Vocabulary,
    VocabularyMismatch,
    decode,
    random_sentence,
)

PROMPT = "a red star"
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_base(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def policy(base: str) -> Policy:
    """A tiny policy with random weights: not one of its rows is zero."""
    torch.manual_seed(1)
    policy = Policy.create(Anatomy(base, rank=4), models=known_assets())
    for weight in policy.trainable().values():
        torch.nn.init.normal_(weight, std=0.1)
    return policy


@pytest.fixture
def automaton() -> Automaton:
    return Automaton(VOCABULARY, known_assets())


@pytest.fixture
def sentences(automaton: Automaton) -> list[tuple[int, ...]]:
    rng = random.Random(3)
    return [random_sentence(automaton, rng) for _ in range(4)]


# --- the 4-bit base --------------------------------------------------------------------------------


def gradients(policy: Policy, sentences: Sequence[tuple[int, ...]]) -> dict[str, torch.Tensor]:
    for weight in policy.trainable().values():
        weight.grad = None
    policy.log_probs([PROMPT] * len(sentences), sentences).sum().backward()
    return {name: weight.grad.clone() for name, weight in policy.trainable().items()}


def test_gradients_are_right_after_a_forward_pass_in_eval_mode(
    packed: Policy, sentences: list[tuple[int, ...]]
) -> None:
    """bitsandbytes would repack the weights in such a pass and give wrong gradients ever after."""
    policy = packed
    before = gradients(policy, sentences)
    policy.trunk.eval()
    with torch.no_grad():
        policy.logits([PROMPT], sentences[:1])
    after = gradients(policy, sentences)
    policy.trunk.train()
    again = gradients(policy, sentences)
    for name in before:
        assert torch.equal(before[name], after[name]), name
        assert torch.equal(before[name], again[name]), name


def test_a_gradient_is_the_slope(policy: Policy, sentences: list[tuple[int, ...]]) -> None:
    """The gradient through the 4-bit layers, against a finite difference, for the input rows."""
    name = "rows.inputs.weight"
    weight = policy.trainable()[name]
    direction = gradients(policy, sentences)[name]
    direction = direction / direction.norm()
    slope = float((gradients(policy, sentences)[name] * direction).sum())
    values = []
    for step in (1e-2, -1e-2):
        with torch.no_grad():
            weight.add_(direction, alpha=step)
            values.append(policy.log_probs([PROMPT] * 4, sentences).sum().item())
            weight.sub_(direction, alpha=step)
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(slope, rel=0.02)


def test_layers_below_are_held_and_gradients_end_there(
    policy: Policy, sentences: list[tuple[int, ...]]
) -> None:
    upper = policy.twin()
    upper.hold_below(1)
    names = upper.trainable().keys()
    assert names < policy.trainable().keys() and "rows.inputs.weight" not in names
    assert {"rows.outputs.weight", "rows.outputs.bias"} <= names
    assert all(".layers.1." in name for name in names if name.startswith("lora."))
    whole, part = gradients(policy, sentences), gradients(upper, sentences)
    for name in names:
        assert torch.equal(whole[name], part[name]), name
    held = dict(upper.trunk.named_parameters())
    assert all(p.grad is None for n, p in held.items() if ".layers.0." in n)
    assert all(p.requires_grad for p in policy.trainable().values())


@pytest.mark.parametrize("layers", [0, 2, 31])
def test_as_many_layers_as_there_are_hold_nothing(policy: Policy, layers: int) -> None:
    whole = policy.twin()
    whole.hold_below(layers)
    assert whole.trainable().keys() == policy.trainable().keys() and whole.uppermost == 0


def test_what_layers_below_give_is_read_once(
    policy: Policy, sentences: list[tuple[int, ...]]
) -> None:
    """Logits and gradients from there on are those of the whole, to the last bit."""
    upper = policy.twin()
    upper.hold_below(1)
    prompts = ["a red star"] * len(sentences)
    below = policy.below(prompts, sentences, 1)
    assert not below.hidden.requires_grad
    whole, above = upper.logits(prompts, sentences), upper.logits_above(below)
    assert torch.equal(whole, above)
    kept = upper.trainable().values()
    for one, other in zip(
        *(torch.autograd.grad(x.sum(), kept) for x in (whole, above)), strict=True
    ):
        assert torch.equal(one, other)
    assert upper.trunk.config.num_hidden_layers == 2  # as it was


@pytest.fixture
def packed(base: str, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """A policy whose base is too large to be held unpacked."""
    monkeypatch.setattr(lm, "UNPACKED", 0)
    torch.manual_seed(1)
    packed = Policy.create(Anatomy(base, rank=4), models=known_assets())
    for weight in packed.trainable().values():
        torch.nn.init.normal_(weight, std=0.1)
    return packed


def test_a_large_base_is_in_4_bits_and_frozen(packed: Policy) -> None:
    layers = [m for m in packed.trunk.modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 2 * 7
    assert all(layer.weight.quant_state.quant_type == "nf4" for layer in layers)
    assert not any(layer.weight.requires_grad for layer in layers)


def test_a_small_base_has_the_values_of_4_bits_unpacked(
    policy: Policy, packed: Policy, sentences: list[tuple[int, ...]]
) -> None:
    """Faster on a CPU, which unpacks 4-bit weights at every token, and equal to the last bit."""
    policy = policy.twin()
    assert not any(isinstance(m, Linear4bit) for m in policy.trunk.modules())
    assert not any(p.requires_grad for n, p in policy.trunk.named_parameters() if "lora" not in n)
    for each in (policy, packed):
        for weight in each.trainable().values():
            torch.nn.init.constant_(weight, 0.01)
    with torch.no_grad():
        values, expected = (each.logits([PROMPT] * 4, sentences) for each in (policy, packed))
    assert torch.equal(values, expected)


def test_an_unknown_base_says_what_is_known() -> None:
    with pytest.raises(lm.WeightsNotFound, match="smollm2-135m-instruct"):
        lm.resolve("smolm2-135m-instruct")


# --- sentences and their probabilities -------------------------------------------------------------


def test_the_names_of_tokens_are_spoken() -> None:
    assert spoken("<sampler:dpmpp_2m>") == "sampler dpmpp 2m"
    assert spoken("<denoise:0.5>") == "denoise 0.5"


def test_a_shared_prompt_changes_no_logits(
    policy: Policy, sentences: list[tuple[int, ...]]
) -> None:
    prompts = [PROMPT, "two fish on sand, striped", PROMPT, "x"]
    with torch.no_grad():
        together = policy.logits(prompts, sentences)
        for place, sentence in enumerate(sentences):
            alone = policy.logits([prompts[place]], [sentence])[0]
            torch.testing.assert_close(
                together[place, : len(sentence)], alone, rtol=1e-4, atol=1e-4
            )


def test_log_probs_sum_over_tokens(policy: Policy, sentences: list[tuple[int, ...]]) -> None:
    with torch.no_grad():
        logits = policy.logits([PROMPT], sentences[:1])[0].log_softmax(-1)
        total = sum(float(row[token]) for row, token in zip(logits, sentences[0], strict=True))
        assert float(policy.log_probs([PROMPT], sentences[:1])) == pytest.approx(total, rel=1e-5)


def test_the_grammar_mask_forbids_what_the_automaton_does(
    automaton: Automaton, sentences: list[tuple[int, ...]]
) -> None:
    mask = grammar_mask(sentences, automaton, len(VOCABULARY))
    for row, sentence in zip(mask, sentences, strict=True):
        state = automaton.start()
        for place, token in enumerate(sentence):
            assert tuple(row[place].isfinite().nonzero()[:, 0]) == automaton.allowed(state)
            state = automaton.advance(state, token)
        assert row[len(sentence) :].eq(0).all()


def test_sampling_gives_the_log_probability_that_training_gives(policy: Policy) -> None:
    samples = policy.sample(PROMPT, 4, seed=5)
    tokens = [sample.tokens for sample in samples]
    with torch.no_grad():
        scored = policy.log_probs([PROMPT] * 4, tokens, policy.automaton)
    assert [s.logprob for s in samples] == pytest.approx(scored.tolist(), rel=1e-4)


# --- sampling --------------------------------------------------------------------------------------


def test_2000_samples_under_the_grammar_are_valid(policy: Policy) -> None:
    """An untrained policy: validity is by construction, not by training."""
    samples = policy.sample(PROMPT, 2000, seed=0, temperature=1.5)
    assert all(sample.valid for sample in samples)
    assert all(decode(sample.tokens).workflow is not None for sample in samples)


def test_without_the_grammar_an_untrained_policy_babbles(policy: Policy) -> None:
    samples = policy.sample(PROMPT, 8, seed=0, constrained=False)
    assert not any(sample.valid for sample in samples)


def test_a_seed_repeats_and_a_sample_does_not_depend_on_the_group(policy: Policy) -> None:
    eight = policy.sample(PROMPT, 8, seed=11)
    for one, other in zip(policy.sample(PROMPT, 8, seed=11), eight, strict=True):
        assert one.tokens == other.tokens
        assert one.logprob == pytest.approx(other.logprob, rel=1e-5)
    assert [s.tokens for s in policy.sample(PROMPT, 3, seed=11)] == [s.tokens for s in eight[:3]]
    assert {s.tokens for s in policy.sample(PROMPT, 8, seed=12)}.isdisjoint(s.tokens for s in eight)


def test_temperature_0_takes_the_likeliest(policy: Policy) -> None:
    samples = policy.sample(PROMPT, 3, seed=0, temperature=0)
    assert len({sample.tokens for sample in samples}) == 1


def test_cancel_is_asked_before_every_pass(policy: Policy) -> None:
    asked = 0

    def cancel() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(Cancelled):
        list(policy.sample_stream(PROMPT, 2, seed=0, cancel=cancel))
    assert asked == 4


@pytest.mark.parametrize("prompt", ["", "x" * 10_000, "🦊 лиса 狐狸", "\ud800", "<|im_end|>\n\0"])
def test_any_prompt_can_be_designed_for(policy: Policy, prompt: str) -> None:
    assert policy.sample(prompt, 1, seed=0)[0].valid


@pytest.mark.parametrize(
    "draw",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0},
        {"top_p": 1.1},
    ],
)
def test_bad_settings_are_refused(policy: Policy, draw: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        policy.sample(PROMPT, 1, 0, **draw)


def test_choose_follows_the_probabilities() -> None:
    logits = torch.tensor([0.0, math.log(3), -torch.inf, math.log(4)]).expand(4000, 4)
    generators = [torch.Generator().manual_seed(0)] * 4000
    drawn = choose(logits, Draw(0), generators)
    shares = (drawn.bincount(minlength=4) / 4000).tolist()
    assert shares == pytest.approx([1 / 8, 3 / 8, 0, 1 / 2], abs=0.03)
    nucleus = choose(logits, Draw(0, top_p=0.8), generators)
    assert set(nucleus.tolist()) == {1, 3}  # the most likely two hold 7/8


def test_a_row_chooses_as_torch_does_whatever_stands_beside_it() -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
    logits[2, 3:] = -torch.inf
    draw = Draw(0, temperature=1.3)
    together = choose(logits, draw, [torch.Generator().manual_seed(row) for row in range(6)])
    for row, token in enumerate(together.tolist()):
        weights = torch.softmax(logits[row].double() / 1.3, -1)
        alone = torch.multinomial(weights, 1, generator=torch.Generator().manual_seed(row))
        assert token == int(alone)


class Scripted:
    """A session whose model always wants the token after the last one it was given."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fed: list[list[list[int]]] = []
        self.guessed: list[list[list[int]]] = []

    def feed(
        self, tokens: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]] = ()
    ) -> torch.Tensor:
        self.fed.append([list(new) for new in tokens])
        self.guessed.append([list(guess) for guess in guesses])
        logits = torch.full((len(tokens), 1 + max(map(len, guesses)), self.size), -30.0)
        for rows, new, guess in zip(logits, tokens, guesses, strict=True):
            for row, last in zip(rows, [new[-1], *guess], strict=False):
                row[(last + 1) % self.size] = 30.0
        return logits

    def keep(self, indices: Sequence[int]) -> None:
        raise AssertionError("all sentences end together")


class Forced(Unconstrained):
    """After token 1 only token 2 may follow."""

    last = 0

    def allowed(self, state: int) -> range:
        return range(2, 3) if state == 2 else range(self.tokens)


def test_a_forced_token_is_not_asked_for() -> None:
    session = Scripted(5)
    said = list(say(session, [0, 1], Draw(0), Forced(5, end=4, longest=9), begin=-1))
    assert [one.tokens for one in said] == [(0, 1, 2, 3, 4)] * 2
    assert session.fed == [[[-1]] * 2, [[0]] * 2, [[1, 2]] * 2, [[3]] * 2]


def test_what_was_guessed_right_is_said_at_once() -> None:
    """0 1 2 3 4 is what the model wants; the habits believe that 3 is followed by 0."""
    habits = Habits()
    for said, token in (([], 0), ([0], 1), ([3], 0)):
        habits.learn(said, token)
    session = Scripted(5)
    language = Forced(5, end=4, longest=9)
    (one,) = say(session, [0], Draw(0), language, -1, habits=habits)
    assert one.tokens == (0, 1, 2, 3, 4)
    # 2 is forced after 1 and nothing is known of 2; then 3 is fed, guessed to go on in vain, and learned from
    assert session.fed == [[[-1]], [[0, 1, 2, 3]]]
    assert session.guessed[0] == [[0, 1, 2]] and session.guessed[1][0][:1] == [0]
    again = Scripted(5)
    (one,) = say(again, [0], Draw(0), language, -1, habits=habits)
    assert one.tokens == (0, 1, 2, 3, 4)
    assert again.fed == [[[-1]]] and again.guessed == [[[0, 1, 2, 3]]]


# --- files -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(policy: Policy, tmp_path: Path) -> Iterator[Path]:
    policy.save(tmp_path)
    yield tmp_path


def test_a_saved_policy_says_the_same(policy: Policy, saved: Path) -> None:
    loaded = Policy.load(saved, models=known_assets())
    ours, theirs = policy.sample(PROMPT, 4, seed=2), loaded.sample(PROMPT, 4, seed=2)
    assert [s.tokens for s in ours] == [s.tokens for s in theirs]
    assert [s.logprob for s in ours] == pytest.approx([s.logprob for s in theirs], rel=0.01)


def test_another_vocabulary_is_refused(saved: Path) -> None:
    path = saved / "vocab.json"
    path.write_text(path.read_text().replace("euler", "oiler"))
    with pytest.raises(VocabularyMismatch):
        Policy.load(saved, models=known_assets())


def test_a_vocabulary_in_another_order_is_refused(saved: Path) -> None:
    """Ids are places in the list: swapped words would be said for one another, without notice."""
    first, second, *others = VOCABULARY.tokens
    (saved / "vocab.json").write_text(Vocabulary([second, first, *others]).to_json())
    with pytest.raises(VocabularyMismatch, match="token 0 is <ckpt:"):
        Policy.load(saved, models=known_assets())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}x", '{"base": 3}', '{"rank": "16"}', '{"rank": 0}', '{"r": 1}'],
)
def test_a_damaged_head_is_told(saved: Path, text: str) -> None:
    (saved / "policy.json").write_text(text)
    with pytest.raises(PolicyError, match=r"policy\.json is damaged"):
        Policy.load(saved, models=known_assets())


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "rows.safetensors"])
def test_damaged_weights_are_told(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PolicyError, match=f"{name} cannot be used"):
        Policy.load(saved, models=known_assets())


def test_an_adapter_of_another_base_is_told(saved: Path) -> None:
    """One layer less, and one more: neither is filled in silently."""
    whole = load_file(saved / ADAPTER)
    fewer = {name: weight for name, weight in whole.items() if ".layers.1." not in name}
    more = whole | {n.replace(".layers.1.", ".layers.2."): w.clone() for n, w in whole.items()}
    for weights in (fewer, more):
        save_file(weights, saved / ADAPTER)
        with pytest.raises(PolicyError, match="another base"):
            Policy.load(saved, models=known_assets())


def test_the_weights_of_another_anatomy_are_told(saved: Path) -> None:
    head = json.loads((saved / "policy.json").read_text())
    (saved / "policy.json").write_text(json.dumps(head | {"rank": 5}))
    with pytest.raises(PolicyError, match="cannot be used") as told:
        Policy.load(saved, models=known_assets())
    assert "size mismatch" in str(told.value) and "27 more" in str(told.value)
    assert len(str(told.value)) < 500  # each of all layers' weights does not fit


def test_a_base_that_is_no_language_model_of_this_kind_is_told(saved: Path, encoder: str) -> None:
    head = json.loads((saved / "policy.json").read_text())
    (saved / "policy.json").write_text(json.dumps(head | {"base": encoder}))
    with pytest.raises(PolicyError, match="has no q_proj"):
        Policy.load(saved, models=known_assets())


def test_the_fingerprint_is_that_of_the_weights(saved: Path) -> None:
    before = fingerprint(saved)
    (saved / "vocab.json").touch()
    assert fingerprint(saved) == before
    (saved / "rows.safetensors").write_bytes(b"other")
    assert fingerprint(saved) != before


def test_a_folder_without_a_policy_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="python -m flowdesign sft"):
        Policy.load(tmp_path)


# --- the shipped policy ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return Policy.load(models=known_assets())


def test_the_stored_figures_meet_the_bars_and_belong_to_the_shipped_weights() -> None:
    figures = read_figures(SHIPPED)
    assert figures is not None, "not measured yet: python -m flowdesign sft --measure"
    assert figures["weights"] == fingerprint(SHIPPED), "python -m flowdesign sft --measure"
    grammar, free = figures["grammar"], figures["free"]
    assert grammar["samples"] >= 2000 and grammar["valid"] == grammar["samples"]
    assert free["samples"] >= 500
    assert min(free["valid"], free["distinct"]) >= 0.95 * free["samples"]


@needs_policy
@pytest.mark.slow
def test_the_shipped_policy_speaks_as_its_figures_say(shipped: Policy) -> None:
    """125 sentences here and now, for other prompts and seeds than those of the figures."""
    free = validity(shipped, 100, constrained=False, seed=1)
    assert min(free["valid"], free["distinct"]) >= 0.95 * 100
    grammar = validity(shipped, 25, constrained=True, seed=1)
    assert grammar["valid"] == 25


@needs_policy
@pytest.mark.slow
def test_the_shipped_policy_speaks_the_vocabulary_of_this_version(shipped: Policy) -> None:
    assert VOCABULARY.tokens[: len(shipped.vocabulary)] == shipped.vocabulary.tokens
    files = (SHIPPED / "adapter_model.safetensors", SHIPPED / "rows.safetensors")
    assert sum(file.stat().st_size for file in files) < 25e6
