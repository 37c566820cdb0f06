"""Workflows to test with: random ones of the language, a hand-written one, and broken ones."""

import json
import random
from typing import Any

from flowdesign.catalog import known_assets
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence
from flowdesign.workflow import Workflow

KNOWN = known_assets()
SEED = 2**63 + 11  # beyond what a signed number holds
AUTOMATON = Automaton(VOCABULARY, KNOWN)
PLAIN = (  # the sentence of `txt2img`
    "<ckpt:mini_flat> <lora:none> <clip_skip:none> <vae:none> <freeu:none> <pag:none> "
    "<prefix:none> <concat:none> <negative:none> <size:64x64> <sampler:euler> "
    "<scheduler:normal> <steps:8> <cfg:4> <end>"
)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node of a workflow."""
    return {"class_type": class_type, "inputs": inputs}


def txt2img(**changes: Any) -> Workflow:
    """The smallest workflow of the language; `sampler__steps=4` changes one input."""
    workflow = {
        "loader": node("CheckpointLoaderSimple", ckpt_name="mini_flat"),
        "prompt": node("CLIPTextEncode", text="{prompt}", clip=["loader", 1]),
        "against": node("CLIPTextEncode", text="", clip=["loader", 1]),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sampler": node(
            "KSampler", model=["loader", 0], seed=0, steps=8, cfg=4.0, sampler_name="euler",
            scheduler="normal", positive=["prompt", 0], negative=["against", 0],
            latent_image=["latent", 0], denoise=1.0,
        ),
        "image": node("VAEDecode", samples=["sampler", 0], vae=["loader", 2]),
        "save": node("SaveImage", images=["image", 0], filename_prefix="FlowDesign"),
    }  # fmt: skip
    for name, value in changes.items():
        key, _, field = name.partition("__")
        workflow[key]["inputs"][field] = value
    return workflow


def plain(api: dict[str, Any]) -> Workflow:
    """An API graph without titles."""
    return {k: {"class_type": n["class_type"], "inputs": n["inputs"]} for k, n in api.items()}


def listed(workflow: Workflow) -> Workflow:
    """A workflow that names its files as ComfyUI lists them: those that are no folders with a suffix."""
    files = {"lora_name", "model_name"}
    return {
        key: {**each, "inputs": {n: f"{v}.safetensors" if n in files else v
                                 for n, v in each["inputs"].items()}}
        for key, each in workflow.items()
    }  # fmt: skip


def random_sentences(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Random walks of the automaton."""
    rng = random.Random(seed)
    return [random_sentence(AUTOMATON, rng) for _ in range(count)]


def random_workflows(count: int, seed: int = 0) -> list[Workflow]:
    """Random unbound workflows of the language."""
    found = [decode(sentence).workflow for sentence in random_sentences(count, seed)]
    return [workflow for workflow in found if workflow is not None]


STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 10**400, -(10**400), 1e308, -0.0, 0.5,
    float("nan"), float("inf"), float("-inf"), "", "a", "eulr", "x" * 5000, "../../etc/passwd",
    "\0", "\ud800", "{prompt}", [], {}, [[]], [["1", 0], ["2", 0]], ["1"], ["1", "0"], ["1", 0],
    ["1", -1], ["1", 99], ["1", 10**400], ["1", True], ["1", 0.0], [None, 0], [1, 0],
    ["nowhere", 0], ("1", 0), {"__value__": 1}, {"class_type": "KSampler"}, b"bytes", {1, 2},
    object(), 1j,
)  # fmt: skip
_DEEP: Any = []
for _ in range(3000):
    _DEEP = [_DEEP]
_ENDLESS: list[Any] = []
_ENDLESS.append(_ENDLESS)
STRANGE += (_DEEP, _ENDLESS)


def mutate(text: str, rng: random.Random) -> Any:
    """Read a workflow (or any JSON) and put one to four faults in."""
    value = json.loads(text)
    for _ in range(rng.randint(1, 4)):
        value = _one_fault(value, rng)
    return value


def _one_fault(value: Any, rng: random.Random) -> Any:
    """Change a value somewhere inside, and in the end the whole one."""
    at: list[Any] = [value]
    while isinstance(at[-1], dict | list) and at[-1] and len(at) < 8 and rng.random() < 0.8:
        last = at[-1]
        at.append(last[rng.choice(list(last) if isinstance(last, dict) else range(len(last)))])
    place = next((each for each in reversed(at) if isinstance(each, dict | list) and each), None)
    if place is None or (len(at) == 1 and rng.random() < 0.02):
        return rng.choice(STRANGE)
    _break(place, value, rng)
    return value


def _break(place: Any, root: Any, rng: random.Random) -> None:
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    key = rng.choice(keys)
    kind = rng.randrange(6)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        strange = [each for each in STRANGE if each.__hash__ is not None]
        new = rng.choice([*strange[:20], *keys, "inputs", "class_type"])
        place[new] = place.pop(key)
    elif kind == 2:
        place[key] = place[rng.choice(keys)]
    elif kind == 3 and isinstance(root, dict) and root:
        place[key] = [rng.choice(list(root)), rng.choice((0, 0, 0, 1, 2, 7, -1))]
    else:
        place[key] = rng.choice(STRANGE)
