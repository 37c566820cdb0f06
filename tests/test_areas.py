"""Texts that count in a part of the image or of the noise: by hand, and by a loop with diffusers' UNet."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from sigma_formulas import at, visited
from tiny_workflows import CFG, NEGATIVE, PROMPT, SEED, STEPS, node, one, pixels, txt2img
from torch import Tensor
from torch.nn import functional

from flowdesign.render import Job, Renderer
from flowdesign.render.areas import average, counts_at, settled, weight
from flowdesign.render.engine import to_pillow
from flowdesign.render.errors import BadWorkflow
from flowdesign.render.levels import NoiseLevels
from flowdesign.render.operations import OPERATIONS
from flowdesign.render.values import Area, Condition, Conditioning
from flowdesign.workflow import Workflow

torch.set_num_threads(1)
LEVELS = NoiseLevels()


def text(number: float, *where: float, **more: object) -> Condition:
    """A text whose embedding says who it is; `where` is height, width, top, left."""
    hidden = torch.full((1, 2, 4), number)
    return Condition(hidden, None, Area(*where) if where else None, **more)  # type: ignore[arg-type]


def named(conditioning: Conditioning) -> list[tuple[float, Area | None]]:
    return [(float(entry.hidden[0, 0, 0]), entry.area) for entry in conditioning.entries]


def sides(positive: list[Condition], negative: list[Condition]) -> tuple[list, list]:  # type: ignore[type-arg]
    found = settled(Conditioning(tuple(positive)), Conditioning(tuple(negative)), 16, 16)
    return named(found[0]), named(found[1])


def test_an_area_fades_at_edges_inside_the_image() -> None:
    """Of 12 columns from the 4th on, a quarter (3) fades, on the left side only; rows reach both edges."""
    x = torch.zeros(1, 4, 16, 16)
    found = weight(text(0, 16, 12, 0, 4, strength=2.0), x)
    row = [2 / 3, 4 / 3, 2.0] + [2.0] * 9
    torch.testing.assert_close(found, torch.tensor([row] * 16))
    both = weight(text(0, 4, 16, 8, 0), x)[:, 0]
    assert both.tolist() == [1, 1, 1, 1]  # a quarter of 4 is 1 place, which rises to 1 at once
    wide = weight(text(0, 40, 8, 4, 0), torch.zeros(1, 4, 64, 8))[:, 0]
    ramp = [(n + 1) / 8 for n in range(8)]
    torch.testing.assert_close(wide, torch.tensor([*ramp, *[1.0] * 24, *ramp[::-1]]))


def test_an_area_beyond_the_image_is_cut() -> None:
    assert weight(text(0, 99, 99, 4, 8), torch.zeros(1, 4, 16, 16)).shape == (12, 8)


def test_predictions_are_averaged_by_weight() -> None:
    x = torch.zeros(1, 1, 2, 8)
    entries = [text(0, strength=1.0), text(0, 2, 4, 0, 0, strength=3.0)]
    found = average(x, entries, [torch.full((1, 1, 2, 8), 2.0), torch.full((1, 1, 2, 4), 6.0)])
    # The area's last column is an edge of one place, which counts fully.
    assert found[0, 0, 0].tolist() == [5.0] * 4 + [2.0] * 4
    assert (
        average(x, entries[1:], [torch.ones(1, 1, 2, 4)])[0, 0, 0].tolist() == [1.0] * 4 + [0.0] * 4
    )
    assert average(x, [], []).abs().max() == 0


def test_every_area_has_a_counterpart_with_the_smallest_text_around_it() -> None:
    corner, half, whole = Area(4, 4, 0, 0), Area(16, 8, 0, 0), None
    a, b = sides([text(1), text(2, 4, 4, 0, 0)], [text(9)])
    assert a == [(1, whole), (2, corner)] and b == [(9, whole), (9, corner)]
    a, b = sides([text(1), text(2, 4, 4, 0, 0)], [text(9), text(8, 16, 8, 0, 0)])
    # The negative half holds the corner; the positive half is what the positive whole text says.
    assert b == [(9, whole), (8, half), (8, corner)]
    assert a == [(1, whole), (2, corner), (1, half)]
    a, b = sides([text(2, 4, 4, 0, 0)], [text(8, 4, 4, 12, 12)])
    assert a == [(2, corner)] and b == [(8, Area(4, 4, 12, 12))]  # nothing around either
    a, b = sides([text(2, 4, 4, 0, 0)], [text(8, 4, 4, 0, 0)])
    assert a == [(2, corner)] and b == [(8, corner)]


def test_shares_become_places_and_at_least_one() -> None:
    own = Condition(torch.zeros(1, 2, 4), None, Area(0.5, 0.01, 0.25, 0.5, shares=True))
    found, _ = settled(Conditioning((own,)), Conditioning(()), 16, 10)
    assert found.entries[0].area == Area(8, 1, 4, 5)


def test_an_area_outside_the_image_is_refused_with_its_place() -> None:
    with pytest.raises(BadWorkflow, match="x 128, y 0, outside of an image of 128x128"):
        sides([text(1, 8, 8, 0, 16)], [text(2)])


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.3), (0.3, 1.0), (0.25, 0.75), (0.0, 1.0)])
def test_a_range_is_one_of_training_steps(start: float, end: float) -> None:
    entry = text(0, start=start, end=end)
    for step in (0, 100, 249.8, 300, 699, 700, 998.9):
        sigma = float(at(np.array([step]))[0])
        assert counts_at(entry, sigma, LEVELS) == (1 - end <= step / 999 <= 1 - start)
    assert not counts_at(text(0, start=1.0), 0.03, LEVELS)  # nothing is left


def made(name: str, **inputs: object) -> Conditioning:
    ((found,),) = OPERATIONS[name](_Context(), [inputs])  # type: ignore[arg-type]
    return found  # type: ignore[no-any-return]


class _Context:
    def check(self) -> None:
        pass


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_texts_are_mixed_over_the_length_of_the_first(tokens: int) -> None:
    first, second = torch.rand(1, 3, 4), torch.rand(1, tokens, 4)
    pooled = torch.rand(1, 6), torch.rand(1, 6)
    found = made(
        "ConditioningAverage",
        conditioning_to=Conditioning((Condition(first, pooled[0], start=0.5),)),
        conditioning_from=Conditioning((Condition(second, pooled[1]),)),
        conditioning_to_strength=0.75,
    )
    (entry,) = found.entries
    for place in range(3):
        other = second[:, place] if place < tokens else torch.zeros(1, 4)
        torch.testing.assert_close(entry.hidden[:, place], 0.75 * first[:, place] + 0.25 * other)
    torch.testing.assert_close(entry.pooled, 0.75 * pooled[0] + 0.25 * pooled[1])
    assert entry.start == 0.5


def test_other_nodes_keep_when_and_where_a_text_counts() -> None:
    own = Conditioning((text(1, 4, 4, 0, 0, strength=0.5, end=0.6),))
    for found in (
        made("ConditioningZeroOut", conditioning=own),
        made("ConditioningConcat", conditioning_to=own, conditioning_from=Conditioning((text(2),))),
    ):
        assert found.entries[0].besides == own.entries[0].besides


# --- the whole way -------------------------------------------------------------------------------

Predict = Callable[[Tensor, float], Tensor]


@pytest.fixture
def pipeline(folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(folder / "checkpoints" / "tiny_sd15")


def encoded(pipeline: StableDiffusionPipeline, text: str) -> Tensor:
    ids = pipeline.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
    return pipeline.text_encoder(ids.input_ids).last_hidden_state  # type: ignore[no-any-return]


def predicted(pipeline: StableDiffusionPipeline, x: Tensor, sigma: float, text: Tensor) -> Tensor:
    output = pipeline.unet(x / math.sqrt(1 + sigma**2), LEVELS.timestep(sigma), text).sample
    return x - sigma * output  # type: ignore[no-any-return]


def euler(predict: Predict, x: Tensor, levels: list[float]) -> Tensor:
    for sigma, following in zip(levels[:-1], levels[1:], strict=True):
        x = x + (x - predict(x, sigma)) / sigma * (following - sigma)
    return x


def drawn(seed: int, side: int) -> Tensor:
    return torch.randn((1, 4, side, side), generator=torch.Generator().manual_seed(seed))


def assert_is(found: np.ndarray, latents: Tensor, vae: object) -> None:
    decoded = vae.decode(latents / 0.18215).sample[0].permute(1, 2, 0)  # type: ignore[attr-defined]
    expected = (255.0 * (decoded / 2 + 0.5).clamp(0, 1)).numpy().astype(np.uint8).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.999


def large(**sampling: object) -> Workflow:
    workflow = txt2img("tiny_sd15", **sampling)
    workflow["empty"]["inputs"] |= {"width": 128, "height": 128}
    return workflow


@torch.no_grad()
def test_an_area_over_a_background_is_the_loop_written_with_diffusers(
    renderer: Renderer, pipeline: StableDiffusionPipeline
) -> None:
    """The right half has a text of its own, which counts twice, fades over two of its eight columns, and
    only for the first 60 % of the noise; the negative text is asked for the half alone, too."""
    workflow = large()
    workflow["star"] = node("CLIPTextEncode", text="star", clip=["ckpt", 1])
    workflow["right"] = node(
        "ConditioningSetArea",
        conditioning=["star", 0],
        width=64,
        height=128,
        x=64,
        y=0,
        strength=2.0,
    )
    workflow["early"] = node(
        "ConditioningSetTimestepRange", conditioning=["right", 0], start=0.0, end=0.6
    )
    workflow["both"] = node(
        "ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["early", 0]
    )
    workflow["sample"]["inputs"]["positive"] = ["both", 0]
    yes, no, star = (encoded(pipeline, text) for text in (PROMPT, NEGATIVE, "star"))
    share = torch.tensor([0.5, 1, 1, 1, 1, 1, 1, 1]) * 2
    until = float(at(np.array([0.4 * 999]))[0])

    def predict(x: Tensor, sigma: float) -> Tensor:
        wanted, unwanted = (predicted(pipeline, x, sigma, each) for each in (yes, no))
        if sigma >= until:
            for whole, text in ((wanted, star), (unwanted, no)):
                part = predicted(pipeline, x[..., 8:], sigma, text)
                whole[..., 8:] = (whole[..., 8:] + part * share) / (1 + share)
        return unwanted + CFG * (wanted - unwanted)

    levels = visited("karras", STEPS, 1.0, False).tolist()
    expected = euler(predict, drawn(SEED, 16) * math.sqrt(1 + levels[0] ** 2), levels)
    found = pixels(one(renderer, workflow))
    assert_is(found, expected, pipeline.vae)
    assert np.abs(found - pixels(one(renderer, large()))).max() > 1


@torch.no_grad()
@pytest.mark.parametrize("method", ["nearest-exact", "bilinear"])
def test_a_hires_pass_is_the_loop_written_with_diffusers(
    renderer: Renderer, pipeline: StableDiffusionPipeline, method: str
) -> None:
    workflow = txt2img("tiny_sd15")
    workflow["large"] = node(
        "LatentUpscaleBy", samples=["sample", 0], upscale_method=method, scale_by=1.5
    )
    second = {"latent_image": ["large", 0], "denoise": 0.6, "seed": SEED + 1}
    workflow["again"] = node("KSampler", **(workflow["sample"]["inputs"] | second))
    workflow["decode"]["inputs"]["samples"] = ["again", 0]
    yes, no = encoded(pipeline, PROMPT), encoded(pipeline, NEGATIVE)

    def predict(x: Tensor, sigma: float) -> Tensor:
        wanted, unwanted = (predicted(pipeline, x, sigma, each) for each in (yes, no))
        return unwanted + CFG * (wanted - unwanted)

    levels = visited("karras", STEPS, 1.0, False).tolist()
    x = euler(predict, drawn(SEED, 8) * math.sqrt(1 + levels[0] ** 2), levels)
    x = functional.interpolate(x, size=(12, 12), mode=method)
    levels = visited("karras", STEPS, 0.6, False).tolist()
    x = euler(predict, x + drawn(SEED + 1, 12) * levels[0], levels)
    assert_is(pixels(one(renderer, workflow)), x, pipeline.vae)


def test_jobs_with_other_areas_are_not_run_as_one(renderer: Renderer) -> None:
    def with_strength(strength: float) -> Workflow:
        workflow = large()
        workflow["part"] = node(
            "ConditioningSetAreaPercentage",
            conditioning=["yes", 0], width=0.5, height=0.5, x=0.5, y=0.0, strength=strength,
        )  # fmt: skip
        workflow["both"] = node(
            "ConditioningCombine", conditioning_1=["no", 0], conditioning_2=["part", 0]
        )
        workflow["sample"]["inputs"]["positive"] = ["both", 0]
        return workflow

    jobs = [Job(with_strength(strength)) for strength in (0.5, 3.0)]
    together = [each.images[0] for each in Renderer(renderer._models, batch=2).render(jobs)]
    alone = [one(renderer, job.workflow) for job in jobs]
    assert [image.tobytes() for image in together] == [image.tobytes() for image in alone]
    assert alone[0].tobytes() != alone[1].tobytes()


def test_an_area_outside_is_refused_in_words(renderer: Renderer) -> None:
    workflow = large()
    workflow["far"] = node(
        "ConditioningSetArea",
        conditioning=["yes", 0],
        width=64,
        height=64,
        x=512,
        y=0,
        strength=1.0,
    )
    workflow["sample"]["inputs"]["positive"] = ["far", 0]
    (result,) = renderer.render([Job(workflow)])
    assert result.fidelity.label == "refused" and "x 512" in result.fidelity.reasons[0]


def test_a_saved_image_is_truncated() -> None:
    """As numpy turns 255 * x into 8 bits: down, after what is outside was cut off."""
    values = np.array(
        [-0.5, 0.0, 0.0039, 0.00393, 0.5, 0.7499, 0.999, 0.9999, 1.0, 1.5], np.float32
    )
    image = to_pillow(torch.from_numpy(values).view(1, -1, 1).expand(1, -1, 3))
    found = np.asarray(image)[0, :, 0].tolist()
    assert found == [0, 0, 0, 1, 127, 191, 254, 254, 255, 255]
    assert found == [math.floor(min(max(255 * float(v), 0), 255)) for v in values]
