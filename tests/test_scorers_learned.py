"""The learned scorers on random weights of the real structure, against numpy and by hand."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scorer_reference as reference
import tiny_scorers as tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)
from torchvision.transforms import functional as vision
from transformers import CLIPConfig, CLIPModel

from flowdesign.scorers import ScorerError, ScorerMissing, available, is_on_hub, load, sources
from flowdesign.scorers.networks import blip
from flowdesign.scorers.networks.clip import config_of, from_open_clip
from flowdesign.scorers.networks.conversion import convert, read_pickle
from flowdesign.scorers.networks.head import build_head
from flowdesign.scorers.networks.loading import fill
from flowdesign.scorers.networks.pixels import DEVIATION, MEAN, crop, pad, to_pixels

PROMPTS = ["a red circle", "a star and a blue circle", "a red circle"]
SIZES = ((96, 64), (40, 70), (64, 64))


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in SIZES]


def normalised(image: Image.Image, side: int, frame: Callable[..., Any]) -> np.ndarray[Any, Any]:
    """What a scorer's network sees; `to_pixels` itself is compared with torchvision below."""
    return to_pixels([image], side, frame)[0].double().numpy()


@pytest.fixture(scope="module")
def clip_weights() -> dict[str, torch.Tensor]:
    return tiny.random_weights(tiny.clip_shapes(tiny.SMALL_CLIP))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: Any, clip_weights: Any) -> Path:
    """A CLIP as its authors' pickle, converted by the command's own function."""
    home = tmp_path_factory.mktemp("clip")
    torch.save({"state_dict": clip_weights, "epoch": 3}, home / "hps.pt")
    folder = convert("hps_v2", home / "hps.pt", home / "hps_v2")
    tiny.write_clip_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def cosines(clip_weights: Any, clip_folder: Path) -> Callable[..., list[float]]:
    """The cosine of every pair, by numpy from open_clip's names."""
    weights = tiny.plain(clip_weights)
    tokenizer = tiny.write_clip_tokenizer(clip_folder)

    def work_out(frame: Callable[..., Any]) -> list[float]:
        found = []
        for prompt, image in zip(PROMPTS, pictures(), strict=True):
            seen = reference.open_clip_picture(weights, normalised(image, 28, frame), heads=2)
            read = reference.open_clip_prompt(weights, tokenizer(prompt).input_ids, heads=2)
            found.append(float(seen @ read))
        return found

    return work_out


@pytest.mark.parametrize(
    ("name", "frame", "factor"),
    [("clip_similarity", crop, 1.0), ("pickscore", crop, np.exp(3.0)), ("hps_v2", pad, 1.0)],
)
def test_a_clip_scorer_gives_what_numpy_gives(
    name: str, frame: Any, factor: float, clip_folder: Path, cosines: Any
) -> None:
    scorer = load(name, str(clip_folder), batch=2)  # three images: a whole batch and a part
    found = scorer(PROMPTS, pictures())
    assert found == pytest.approx([factor * one for one in cosines(frame)], rel=1e-4, abs=1e-5)
    assert len({round(one, 4) for one in found}) == 3
    assert scorer.low is None or all(scorer.low <= one <= scorer.high for one in found)


def test_a_score_depends_on_its_own_pair_alone(clip_folder: Path) -> None:
    scorer = load("pickscore", str(clip_folder))
    together = scorer(PROMPTS, pictures())
    alone = [scorer([p], [i])[0] for p, i in zip(PROMPTS, pictures(), strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert scorer(PROMPTS[:1], pictures()[1:2]) != pytest.approx(alone[:1], abs=1e-3)


def test_a_long_prompt_is_cut_not_refused(clip_folder: Path) -> None:
    found = load("hps_v2", str(clip_folder))(["red circle " * 100], pictures()[:1])
    assert np.isfinite(found).all()


def test_prompts_and_images_must_pair(clip_folder: Path) -> None:
    with pytest.raises(ScorerError, match="1 prompts for 3 images"):
        load("hps_v2", str(clip_folder))(PROMPTS[:1], pictures())


def test_aesthetic_gives_what_numpy_gives(
    tmp_path: Path, clip_folder: Path, clip_weights: Any, monkeypatch: Any
) -> None:
    weights = tiny.random_weights(tiny.head_shapes("layers.", tiny.SMALL_CLIP[-1]), seed=5)
    torch.save(weights, tmp_path / "head.pth")
    folder = convert("aesthetic", tmp_path / "head.pth", tmp_path / "scorers" / "aesthetic")
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path / "scorers"))
    (tmp_path / "scorers" / "clip_similarity").symlink_to(clip_folder)
    assert available("aesthetic") == ""
    found = load("aesthetic")([""] * 3, pictures())
    plain = tiny.plain(weights)
    seen = [
        reference.open_clip_picture(tiny.plain(clip_weights), normalised(image, 28, crop), 2)
        for image in pictures()
    ]
    by_hand = [reference.head(plain, "layers.", one) for one in seen]
    assert found == pytest.approx(by_hand, rel=1e-4, abs=1e-5)
    assert sorted(path.name for path in folder.iterdir()) == ["head.safetensors"]


@pytest.fixture(scope="module")
def reward_folder(tmp_path_factory: Any) -> Path:
    home = tmp_path_factory.mktemp("reward")
    weights = tiny.random_weights(tiny.reward_shapes(tiny.SMALL_REWARD), seed=7)
    torch.save(weights, home / "ImageReward.pt")
    folder = convert("imagereward", home / "ImageReward.pt", home / "imagereward")
    tiny.write_bert_tokenizer(folder)
    return folder


def test_imagereward_gives_what_numpy_gives(reward_folder: Path) -> None:
    weights = tiny.plain(load_file(reward_folder / "model.safetensors"))
    tokenizer = tiny.write_bert_tokenizer(reward_folder)
    found = load("imagereward", str(reward_folder), batch=2)(PROMPTS, pictures())
    by_hand = []
    for prompt, image in zip(PROMPTS, pictures(), strict=True):
        read = tokenizer(prompt, padding="max_length", truncation=True, max_length=35)
        pixels = normalised(image, 32, crop)
        by_hand.append(reference.image_reward(weights, pixels, read.input_ids, read.attention_mask))
    assert found == pytest.approx(by_hand, rel=1e-4, abs=1e-5)
    assert len({round(one, 5) for one in found}) == 3


def test_imagereward_reads_the_prompt_and_not_its_padding(reward_folder: Path) -> None:
    scorer = load("imagereward", str(reward_folder))
    image = pictures()[:1]
    first, other = scorer(["a red circle"], image), scorer(["a blue star"], image)
    assert first != pytest.approx(other, abs=1e-5)
    network, pixels = scorer.network, to_pixels(image, 32)
    tokens = torch.tensor([[2, 4, 5, 7, 3, 0, 0]])
    there = torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    short = network(pixels, tokens[:, :5], there[:, :5])
    assert torch.allclose(network(pixels, tokens, there), short, atol=1e-5)


# --- the published files -------------------------------------------------------------------------


def test_full_size_hps_has_the_published_names_shapes_and_size() -> None:
    shapes = tiny.clip_shapes(tiny.FULL_CLIP)
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    assert count == 986_109_441  # what open_clip states for ViT-H-14
    weights = tiny.meta_weights(shapes)
    config = config_of(weights)
    model = fill(lambda: CLIPModel(config), from_open_clip(weights), "HPS v2")
    assert sum(one.numel() for one in model.parameters()) == count
    # laion/CLIP-ViT-H-14-laion2B-s32B-b79K/config.json, of which PickScore is a fine-tune
    seen, read = config.vision_config, config.text_config
    assert (seen.num_attention_heads, seen.intermediate_size, seen.patch_size) == (16, 5120, 14)
    assert (read.num_attention_heads, read.intermediate_size, read.vocab_size) == (16, 4096, 49408)
    assert (seen.image_size, config.projection_dim, read.eos_token_id) == (224, 1024, 49407)
    assert (seen.hidden_act, read.hidden_act) == ("gelu", "gelu")


def test_full_size_imagereward_has_the_published_names_shapes_and_size() -> None:
    weights = tiny.meta_weights(tiny.reward_shapes(tiny.FULL_REWARD))
    network = blip.build(weights)
    assert network.side == 224
    stored = sum(one.numel() for one in weights.values())
    assert 4 * stored == pytest.approx(1.79e9, rel=0.003)  # the hub's ImageReward.pt: 1.79 GB


def test_full_size_aesthetic_and_the_clip_below_it() -> None:
    head = build_head(tiny.meta_weights(tiny.head_shapes("layers.", 768)))
    by_hand = 768 * 1024 + 1024 * 128 + 128 * 64 + 64 * 16 + 16 + (1024 + 128 + 64 + 16 + 1)
    assert sum(one.numel() for one in head.parameters()) == by_hand == 927_969
    # openai/clip-vit-large-patch14/config.json
    seen = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    seen |= {"num_attention_heads": 16, "patch_size": 14}
    read = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    config = CLIPConfig(vision_config=seen, text_config=read, projection_dim=768)
    with torch.device("meta"):
        model = CLIPModel(config)
    assert sum(one.numel() for one in model.parameters()) == 427_616_513  # as OpenAI states it
    assert model.visual_projection.out_features == head.layers[0].in_features


def test_pixels_are_those_of_torchvision() -> None:
    bicubic = InterpolationMode.BICUBIC
    steps = Compose([Resize(28, bicubic), CenterCrop(28), ToTensor(), Normalize(MEAN, DEVIATION)])
    for image in pictures():
        assert torch.allclose(to_pixels([image], 28)[0], steps(image), atol=1e-6)


def test_padded_pixels_are_those_of_hps() -> None:
    """The longer side is made to fit and black goes beside, more of it after than before."""
    finish = Compose([ToTensor(), Normalize(MEAN, DEVIATION)])
    for image in pictures():
        scale = 28 / max(image.size)
        width, height = round(image.width * scale), round(image.height * scale)
        small = vision.resize(image, [height, width], InterpolationMode.BICUBIC)
        left, top = (28 - width) // 2, (28 - height) // 2
        edges = [left, top, 28 - width - left, 28 - height - top]
        framed = finish(vision.pad(small, edges, fill=0))
        assert torch.allclose(to_pixels([image], 28, pad)[0], framed, atol=1e-6)


# --- where weights come from ---------------------------------------------------------------------


def fill_hub(home: Path, repository: str, folder: Path, names: list[str]) -> None:
    """Lay files out as the hub's own cache does, so that its client finds them without a network."""
    place = home / "hub" / ("models--" + repository.replace("/", "--"))
    commit = "0" * 39 + "1"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    for name in names:
        (place / "snapshots" / commit / name).write_bytes((folder / name).read_bytes())


@pytest.mark.slow
def test_weights_come_from_the_hub_in_a_real_process(
    tmp_path: Path, clip_folder: Path, reward_folder: Path
) -> None:
    """PickScore from its repository, ImageReward from a folder, each with the hub's tokenizer."""
    hub, scorers = tmp_path / "huggingface", tmp_path / "scorers"
    fill_hub(hub, "yuvalkirstain/PickScore_v1", clip_folder, ["config.json", "model.safetensors"])
    words = ["tokenizer.json", "tokenizer_config.json"]
    fill_hub(hub, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", clip_folder, words)
    fill_hub(hub, "google-bert/bert-base-uncased", reward_folder, ["vocab.txt"])
    (scorers / "imagereward").mkdir(parents=True)
    copied = (reward_folder / "model.safetensors").read_bytes()
    (scorers / "imagereward" / "model.safetensors").write_bytes(copied)
    pictures()[0].save(tmp_path / "a.png")
    command = [sys.executable, "-m", "flowdesign", "score", str(tmp_path / "a.png"), "--json"]
    command += ["--prompt", PROMPTS[0], "--scorers", "pickscore,imagereward"]
    places = {"HF_HOME": str(hub), "HF_HUB_OFFLINE": "1", sources.VARIABLE: str(scorers)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | places)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    image = pictures()[:1]
    for name, folder in (("pickscore", clip_folder), ("imagereward", reward_folder)):
        found = load(name, str(folder))(PROMPTS[:1], image)
        assert row["scores"][name] == pytest.approx(found[0], abs=1e-5)


# --- what is refused -----------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil_was_here"),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.ones(1)}, "evil": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil()))
    for file in ("evil.pt", "bare.pt"):
        with pytest.raises(ScorerError, match="holds more than weights"):
            convert("hps_v2", tmp_path / file, tmp_path / "out")
    assert not (tmp_path / "evil_was_here").exists()
    assert not (tmp_path / "out").exists()


def test_conversion_refuses_other_weights_and_leaves_nothing(tmp_path: Path) -> None:
    torch.save(tiny.random_weights(tiny.head_shapes("layers.", 8)), tmp_path / "head.pth")
    for name in ("hps_v2", "imagereward"):
        with pytest.raises(ScorerError, match="These are not the weights of"):
            convert(name, tmp_path / "head.pth", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["head.pth"]
    with pytest.raises(ScorerError, match=r"'pickscore' has nothing to convert"):
        convert("pickscore", tmp_path / "head.pth", tmp_path / "pickscore")
    with pytest.raises(ScorerError, match="There is no file"):
        read_pickle(tmp_path / "absent.pt")


def test_conversion_does_not_overwrite(tmp_path: Path) -> None:
    torch.save(tiny.random_weights(tiny.head_shapes("layers.", 8)), tmp_path / "head.pth")
    (tmp_path / "there").mkdir()
    with pytest.raises(ScorerError, match="is there already"):
        convert("aesthetic", tmp_path / "head.pth", tmp_path / "there")


@pytest.mark.parametrize("change", ["absent", "extra", "shape"])
def test_weights_must_fit_exactly(change: str) -> None:
    weights = tiny.random_weights(tiny.reward_shapes(tiny.SMALL_REWARD))
    name = "blip.text_encoder.encoder.layer.1.crossattention.self.key.weight"
    if change == "absent":
        del weights[name]
    elif change == "extra":
        weights["blip.text_encoder.pooler.dense.weight"] = torch.ones(1)
    else:
        weights[name] = weights[name][:, :-1]
    words = {"absent": "is absent", "extra": "is not part of it", "shape": "has another shape"}
    with pytest.raises(ScorerError, match=words[change]):
        blip.build(weights)


def test_a_clip_with_a_weight_missing_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    weights = load_file(clip_folder / "model.safetensors")
    del weights["visual_projection.weight"]
    for path in clip_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ScorerError, match=r"visual_projection\.weight is absent"):
        load("pickscore", str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ScorerError, match="does not hold a CLIP"):
        load("pickscore", str(tmp_path))


def test_a_pickle_in_a_folder_is_not_read(tmp_path: Path, clip_folder: Path) -> None:
    (tmp_path / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    torch.save(CLIPModel(CLIPConfig.from_pretrained(clip_folder)).state_dict(), tmp_path / "pytorch_model.bin")  # fmt: skip
    with pytest.raises(ScorerMissing, match=r"there is no model\.safetensors in"):
        load("pickscore", str(tmp_path))


def test_missing_weights_say_where_to_get_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path))
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "none")
    for name in ("hps_v2", "imagereward", "aesthetic"):
        with pytest.raises(ScorerMissing, match=f"scorers convert {name}") as fault:
            load(name)
        assert str(tmp_path / name) in str(fault.value)
        assert available(name) == str(fault.value)
    assert "yuvalkirstain/PickScore_v1" in available("pickscore")


def test_what_the_hub_has_is_told_apart_from_what_nobody_has(
    tmp_path: Path, clip_folder: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path))
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "none")
    monkeypatch.setattr(sources, "is_cached", lambda repository, file: False)
    assert is_on_hub("pickscore") and is_on_hub("clip_similarity", "somebody/a-clip")
    assert not is_on_hub("pickscore", str(clip_folder))  # it is here
    assert not is_on_hub("hps_v2")  # published as a pickle, which is never fetched
    assert not is_on_hub("scene_soft")
    monkeypatch.setattr(sources, "is_cached", lambda repository, file: True)
    assert not is_on_hub("pickscore")


def test_a_named_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScorerMissing, match=str(tmp_path / "nowhere")):
        load("pickscore", str(tmp_path / "nowhere"))


def test_a_converted_clip_is_an_ordinary_transformers_folder(clip_folder: Path) -> None:
    config = json.loads((clip_folder / "config.json").read_text())
    assert config["model_type"] == "clip"
    model = CLIPModel.from_pretrained(clip_folder)
    assert model.vision_model.config.num_hidden_layers == 2
