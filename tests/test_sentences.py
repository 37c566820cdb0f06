"""From sentences to workflows and back, and what no sentence can say."""

import random
from typing import Any

import pytest
from language_toys import KNOWN, PLAIN, STRANGE, node, random_sentences, txt2img

from flowdesign.tokens import NotInLanguage, decode, encode, parse_sentence, sentence_text
from flowdesign.workflow import bind, nodes_of, validate

# --- decoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "stops after 0 tokens. Allowed next: <ckpt:mini_flat>"),
        (PLAIN.removesuffix(" <end>"), "stops after 14 tokens"),
        (PLAIN + " <end>", "Token 16, <end>, comes after the end"),
        (PLAIN.replace("<cfg:4>", "<steps:8>"), "Token 14, <steps:8>, cannot stand here"),
    ],
)
def test_a_broken_sentence_is_a_problem(text: str, message: str) -> None:
    decoded = decode(parse_sentence(text))
    assert decoded.workflow is None
    assert decoded.problems[0].code == "invalid_sentence"
    assert message in decoded.problems[0].message


def test_decoding_survives_random_tokens() -> None:
    rng = random.Random(0)
    good = random_sentences(50)
    for _ in range(10_000):
        tokens: list[Any] = list(rng.choice(good))
        for _ in range(rng.randint(0, 3)):
            tokens[rng.randrange(len(tokens))] = rng.choice((rng.randrange(-3, 130), *STRANGE))
        del tokens[rng.randint(0, 60) :]
        decoded = decode(tokens)
        assert (decoded.workflow is None) == bool(decoded.problems)
        if decoded.workflow is not None:
            assert validate(decoded.workflow, KNOWN) == []
    for strange in STRANGE:
        assert decode(strange).problems


# --- encoding ------------------------------------------------------------------------------------


def test_a_hand_written_workflow_is_a_sentence() -> None:
    encoded = encode(bind(txt2img(), "a red star", 5))
    assert sentence_text(encoded.tokens) == PLAIN
    assert (encoded.prompt, encoded.seed, encoded.notes) == ("a red star", 5, ())


@pytest.mark.parametrize("prompt", ["", "blurry", "blurry, messy", "crisp", "clean"])
def test_a_prompt_may_be_a_text_of_the_vocabulary(prompt: str) -> None:
    """Bound, the positive text then equals the negative or the appended one."""
    for sentence in random_sentences(100, seed=8):
        workflow = decode(sentence).workflow
        assert workflow is not None
        encoded = encode(bind(workflow, prompt, 5))
        assert (encoded.tokens, encoded.prompt, encoded.notes) == (sentence, prompt, ())


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"sampler__steps": 25}, "KSampler 5: steps 25 became 28."),
        ({"sampler__cfg": 7.7}, "cfg 7.7 became 7."),
        ({"sampler__denoise": 0.9}, "denoise 0.9 became 1."),
        ({"latent__width": 512, "latent__height": 700}, "width 512 became 128."),
        ({"latent__batch_size": 4}, "batch_size 4 became 1."),
        ({"save__filename_prefix": "mine"}, "filename_prefix 'mine' became 'FlowDesign'."),
    ],
)
def test_a_value_between_the_bins_is_moved_and_noted(changes: dict[str, Any], note: str) -> None:
    encoded = encode(txt2img(**changes))
    assert any(note in each for each in encoded.notes), encoded.notes
    again = decode(encoded.tokens).workflow
    assert again is not None and encode(again).notes == ()


def test_a_preview_becomes_a_saved_image() -> None:
    workflow = txt2img()
    workflow["save"] = node("PreviewImage", images=["image", 0])
    assert encode(workflow).notes == ("PreviewImage 7 became SaveImage.",)


def test_loras_are_ordered_and_seeds_noted() -> None:
    def lora(name: str, origin: str) -> dict[str, Any]:
        links = {"model": [origin, 0], "clip": [origin, 1]}
        return node("LoraLoader", **links, lora_name=name, strength_model=0.5, strength_clip=1.0)

    workflow = txt2img(sampler__model=["b", 0], prompt__clip=["b", 1], against__clip=["b", 1])
    workflow |= {"a": lora("striped_sand", "loader"), "b": lora("flat_dusk", "a")}
    encoded = encode(workflow)
    assert "<lora:flat_dusk> <strength:0.4> <lora:striped_sand>" in sentence_text(encoded.tokens)
    assert any("order" in note for note in encoded.notes)
    two = decode(parse_sentence(PLAIN.replace(
        "<end>", "<pass:latent> <method:area> <scale:2> <model:base> <sampler:euler> "
        "<scheduler:normal> <steps:8> <cfg:4> <denoise:0.5> <end>"
    ))).workflow  # fmt: skip
    assert two is not None
    bound = bind(two, "x", 7)
    bound[nodes_of(bound, "KSampler")[1]]["inputs"]["seed"] = 7
    assert encode(bound).notes == (
        "The seeds of later passes are not kept: they follow from the first.",
    )


def outside() -> dict[str, Any]:
    """Valid workflows that the vocabulary cannot say."""
    decoder = {"other": node("VAEDecode", samples=["sampler", 0], vae=["loader", 2])}
    stretch = {"big": node("ImageScale", image=["image", 0], upscale_method="area", width=99,
                           height=99, crop="disabled")}  # fmt: skip
    vae = {"vae": node("VAELoader", vae_name="mini_vae")}
    lora = {"lora": node("LoraLoader", model=["loader", 0], clip=["loader", 1],
                         lora_name="flat_dusk", strength_model=-1.0, strength_clip=1.0)}  # fmt: skip
    return {
        "a scheduler without a word": txt2img(sampler__scheduler="kl_optimal"),
        "another negative text": txt2img(against__text="bad hands"),
        "a fixed text": txt2img(sampler__positive=["against", 0]),
        "two images": txt2img() | decoder | {
            "twice": node("ImageScaleBy", image=["other", 0], upscale_method="area", scale_by=2.0),
            "also": node("SaveImage", images=["twice", 0], filename_prefix="x"),
        },
        "no sampling": txt2img(image__samples=["latent", 0]),
        "another resize": txt2img(save__images=["big", 0]) | stretch,
        "resize of one": txt2img(save__images=["big", 0]) | {
            "big": node("ImageScaleBy", image=["image", 0], upscale_method="area", scale_by=0.5)
        },
        "a LoRA for the model only": txt2img(sampler__model=["lora", 0]) | lora,
        "a LoRA against": txt2img(
            sampler__model=["lora", 0], prompt__clip=["lora", 1], against__clip=["lora", 1]
        ) | lora,
        "a VAE for one of two": txt2img(image__vae=["vae", 0], save__images=["again", 0]) | vae | {
            "back": node("VAEEncode", pixels=["image", 0], vae=["vae", 0]),
            "again": node("VAEDecode", samples=["back", 0], vae=["loader", 2]),
        },
        "invalid": txt2img(sampler__steps=0),
        "no graph": 7,
    }  # fmt: skip


@pytest.mark.parametrize("name", list(outside()))
def test_what_cannot_be_said_is_refused_with_problems(name: str) -> None:
    with pytest.raises(NotInLanguage) as caught:
        encode(outside()[name])
    assert caught.value.problems
    assert all(problem.message for problem in caught.value.problems)
    if name not in ("invalid", "no graph"):
        assert validate(outside()[name], KNOWN) == []
