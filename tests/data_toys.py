"""A store of synthetic records: drawn scenes of the miniature world, with workflows of the grammar."""

import io
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import Image

from flowdesign import comfy
from flowdesign.catalog import known_assets
from flowdesign.drawing import draw, random_scene
from flowdesign.records import Record, Store, sha_of
from flowdesign.scenes import parse, random_prompt
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence, sentence_text
from flowdesign.workflow import Workflow

WORKFLOWS = 40
SOURCES = ("collect:toys", "playground", "import:old pictures")


@cache
def grammar() -> Automaton:
    """The grammar with all of the catalogue installed."""
    return Automaton(VOCABULARY, known_assets())


@cache
def toy_workflow(number: int) -> tuple[Workflow, str]:
    """A random workflow and its sentence, always the same for a number."""
    tokens = tuple(random_sentence(grammar(), random.Random(number)))
    decoded = decode(tokens)
    assert decoded.workflow is not None
    return decoded.workflow, sentence_text(tokens)


def picture(prompt: str, seed: int, side: int = 64) -> Image.Image:
    """A drawing of what a prompt asks for."""
    spec = parse(prompt)
    assert spec is not None
    return draw(random_scene(random.Random(seed), spec), side, seed)


def png_bytes(image: Image.Image, workflow: Workflow | None = None, prompt: str = "") -> bytes:
    """A PNG, with ComfyUI's and our chunks when there is a workflow."""
    data = io.BytesIO()
    info = comfy.png_info(workflow, prompt, 5) if workflow else None
    image.save(data, "PNG", pnginfo=info)
    return data.getvalue()


def toy_records(count: int, side: int = 64) -> Iterable[tuple[Record, bytes]]:
    """Records and their images; every seventh failed and has none."""
    workflows = [toy_workflow(number) for number in range(min(count, WORKFLOWS))]
    rng = random.Random(0)
    prompts = [random_prompt(rng) for _ in range(max(1, count // 4))]
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        workflow, sentence = workflows[number % len(workflows)]
        failed = number % 7 == 6
        data = b"" if failed else png_bytes(picture(prompt, number, side))
        scores: dict[str, float] = {"scene_soft": rng.random(), "sharpness": rng.gauss(0.4, 0.1)}
        yield (
            Record(
                prompt,
                workflow,
                seed=number,
                sentence=sentence,
                image=sha_of(data) if data else "",
                scores={} if failed else scores,
                source=SOURCES[number % 3],
                renderer="flowdesign toys",
                fidelity="exact",
                seconds=1.5,
                failure="the sampler met a NaN" if failed else "",
            ),
            data,
        )


def fill(store: Store, count: int, side: int = 64) -> list[int]:
    """Add synthetic records; their ids, oldest first."""
    made = list(toy_records(count, side))
    return store.add([one for one, _ in made], {one.image: data for one, data in made if data})


def filled(folder: Path, count: int, side: int = 64) -> Store:
    """An open store with synthetic records."""
    store = Store.open(folder)
    fill(store, count, side)
    return store
