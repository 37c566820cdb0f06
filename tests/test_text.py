"""Prompt weights and chunks by hand, and the encoder against transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import word_tokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from flowdesign.render.text import Encoder, Special, chunks, parse_weights

torch.set_num_threads(1)
SPECIAL = Special(start=100, end=101, pad=102)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red star", [("a red star", 1.0)]),
        ("a (red) star", [("a ", 1.0), ("red", 1.1), (" star", 1.0)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("((red))", [("red", 1.21)]),
        ("(a (red:2) star:0.5)", [("a ", 0.5), ("red", 2.0), (" star", 0.5)]),
        ("(a (red) star:0.5)", [("a ", 0.5), ("red", 0.55), (" star", 0.5)]),
        ("(red:-1)", [("red", -1.0)]),
        ("(red:much)", [("red:much", 1.1)]),
        ("[red]", [("[red]", 1.0)]),
        (r"\(red\)", [("(red)", 1.0)]),
        (r"(\(red\):1.5)", [("(red)", 1.5)]),
        ("a: b", [("a: b", 1.0)]),
        ("(red", [("(red", 1.0)]),
        ("red)", [("red)", 1.0)]),
        ("\ud83e red", [("? red", 1.0)]),
    ],
)
def test_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    found = parse_weights(prompt)
    assert [piece.text for piece in found] == [text for text, _ in expected]
    assert [piece.weight for piece in found] == pytest.approx([weight for _, weight in expected])


@given(st.text(alphabet="ab ():.0123456789\\-e", max_size=60))
def test_weights_are_total_and_finite(prompt: str) -> None:
    assert all(abs(piece.weight) < 1e9 for piece in parse_weights(prompt))


def test_deep_brackets_do_not_recurse() -> None:
    (piece,) = parse_weights("(" * 3000 + "a" + ")" * 3000)
    assert piece.text == "a"


def test_an_empty_prompt_is_one_chunk_of_padding() -> None:
    (chunk,) = chunks([], SPECIAL)
    assert chunk.ids == (100, 101, *[102] * 75)
    assert chunk.weights == (1.0,) * 77


def test_a_short_prompt_is_framed_and_padded() -> None:
    (chunk,) = chunks([((1, 2), 1.0), ((3,), 1.5)], SPECIAL)
    assert chunk.ids == (100, 1, 2, 3, 101, *[102] * 72)
    assert chunk.weights == (1.0, 1.0, 1.0, 1.5, 1.0, *[1.0] * 72)


def test_exactly_75_tokens_are_one_chunk_and_76_are_two() -> None:
    assert len(chunks([(range(75), 1.0)], SPECIAL)) == 1
    first, second = chunks([(range(76), 1.0)], SPECIAL)
    assert first.ids == (100, *range(75), 101)
    assert second.ids == (100, 75, 101, *[102] * 74)


def encoder_of(kind: Any, normed: bool) -> Encoder:
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        projection_dim=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    return Encoder(kind(config).eval(), tokenizer, Special(start, end, end), normed=normed)


@pytest.fixture(scope="module")
def plain() -> Encoder:
    return encoder_of(CLIPTextModel, normed=True)


@pytest.fixture(scope="module")
def pooled() -> Encoder:
    return encoder_of(CLIPTextModelWithProjection, normed=False)


@torch.no_grad()
def encode(encoder: Encoder, prompt: str, skip: int | None = None) -> Tensor:
    return encoder.encode(encoder.tokenize(prompt), skip)[0]


def ids(encoder: Encoder, prompt: str) -> Tensor:
    return torch.tensor([chunk.ids for chunk in encoder.tokenize(prompt)])


@torch.no_grad()
def test_a_plain_prompt_is_what_transformers_says(plain: Encoder) -> None:
    expected = plain.model(ids(plain, "a red star")).last_hidden_state
    torch.testing.assert_close(encode(plain, "a red star"), expected)


@torch.no_grad()
@pytest.mark.parametrize("skip", [-1, -2, -3])
def test_clip_skip_reads_an_earlier_layer_and_norms_it(plain: Encoder, skip: int) -> None:
    out = plain.model(ids(plain, "a red star"), output_hidden_states=True)
    inner = getattr(plain.model, "text_model", plain.model)
    expected = inner.final_layer_norm(out.hidden_states[skip])
    torch.testing.assert_close(encode(plain, "a red star", skip), expected)


@torch.no_grad()
def test_the_xl_encoder_gives_the_second_last_layer_bare_and_a_pooled_vector(
    pooled: Encoder,
) -> None:
    out = pooled.model(ids(pooled, "a red star"), output_hidden_states=True)
    hidden, summary = pooled.encode(pooled.tokenize("a red star"), -2)
    torch.testing.assert_close(hidden, out.hidden_states[-2])
    torch.testing.assert_close(summary, out.text_embeds)


def test_a_weight_moves_a_token_away_from_the_empty_prompt(plain: Encoder) -> None:
    bare, empty = encode(plain, "a red star"), encode(plain, "")
    found = encode(plain, "a (red:1.5) star")
    expected = bare.clone()
    expected[:, 2] = (bare[:, 2] - empty[:, 2]) * 1.5 + empty[:, 2]
    torch.testing.assert_close(found, expected)
    changed = (found != bare).any(-1).squeeze(0).nonzero().flatten().tolist()
    assert changed == [2]  # start, "a", "red", "star": no other token moves, not by a bit


def test_weight_0_is_the_empty_prompt_there(plain: Encoder) -> None:
    found, empty = encode(plain, "a (red:0) star"), encode(plain, "")
    torch.testing.assert_close(found[:, 2], empty[:, 2])


def test_a_long_prompt_is_its_chunks_one_after_the_other(plain: Encoder) -> None:
    whole = encode(plain, "red " * 100)
    assert whole.shape == (1, 154, 32)
    torch.testing.assert_close(whole[:, :77], encode(plain, "red " * 75))
    torch.testing.assert_close(whole[:, 77:], encode(plain, "red " * 25))


def test_the_pooled_vector_is_that_of_the_first_chunk(pooled: Encoder) -> None:
    _, long = pooled.encode(pooled.tokenize("red " * 100), -2)
    _, first = pooled.encode(pooled.tokenize("red " * 75), -2)
    torch.testing.assert_close(long, first)


@pytest.mark.parametrize("prompt", ["", "🐟 рыба 魚", "x" * 10_000, "()" * 500, "\0\1\2"])
def test_strange_prompts_are_encoded(plain: Encoder, prompt: str) -> None:
    assert encode(plain, prompt).isfinite().all()
