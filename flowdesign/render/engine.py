"""The renderer: runs bound workflows, each distinct node once.

jobs -> nodes by hash of what they depend on -> level by level, alike nodes together -> images
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from flowdesign.catalog import Installed, installed
from flowdesign.nodes import NODES
from flowdesign.render.cache import DEFAULT_BYTES, Cache
from flowdesign.render.errors import Cancelled, Refused, RenderError
from flowdesign.render.fidelity import APPROXIMATE, REFUSED, Fidelity, fidelity
from flowdesign.render.models import Library
from flowdesign.render.operation import Context
from flowdesign.render.operations import OPERATIONS
from flowdesign.render.text import embedding_named, embeddings_in
from flowdesign.render.values import Saved
from flowdesign.workflow import (
    TEXTS,
    Workflow,
    bind,
    digests,
    outputs_of,
    source,
    topological_order,
)

Cancel = Callable[[], bool]
KEPT_IN_BULK = tuple(
    name for name, texts in TEXTS.items() if texts
)  # what render_many has use for again; latents would push it out
BATCHED = "rendered in a batch: rounding may change some pixel values by 1"


@dataclass(frozen=True)
class Job:
    """A workflow that is bound to a prompt and a seed."""

    workflow: Workflow


@dataclass(frozen=True)
class Picture:
    """What became of a job. A refused one has no images."""

    images: tuple[Pillow.Image, ...]
    fidelity: Fidelity
    seconds: float = 0.0
    nodes_run: int = 0
    nodes_cached: int = 0


@dataclass(frozen=True)
class _Node:
    """A node of some job: its class and inputs, links by the digest of their source."""

    class_type: str
    widgets: Mapping[str, Any]
    links: Mapping[str, tuple[str, int]]
    depth: int


@dataclass(frozen=True)
class _Program:
    """The nodes that a job needs, by digest, in order; and the digests of its outputs."""

    nodes: Mapping[str, _Node]
    outputs: tuple[str, ...]


class Renderer:
    """Renders workflows on one device. Safe to use from several threads, one at a time runs.

    `batch` jobs that differ only in texts and seed share sampler calls. With 1, the default, the
    same workflow, prompt and seed give the same bytes whatever else is rendered.
    """

    def __init__(
        self,
        models: Installed | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        *,
        batch: int = 1,
        cache_bytes: int = DEFAULT_BYTES,
    ) -> None:
        if batch < 1:
            raise ValueError(f"The batch must be at least 1, not {batch}.")
        self._models = models or installed()
        self._device = torch.device(device)
        self._dtype = dtype or torch.float32
        self._batch = batch
        self._library = Library(self._models, device, self._dtype)
        self._cache = Cache(cache_bytes)
        self._lock = threading.Lock()

    def fidelity(self, workflow: Workflow) -> Fidelity:
        """Tell how this renderer will render a workflow, without rendering or loading weights."""
        found = fidelity(workflow, self._models)
        if found.label == REFUSED:
            return found
        reasons = []
        if self._dtype != torch.float32:
            reasons.append(f"the diffusion model runs in {str(self._dtype).removeprefix('torch.')}")
        if self._device.type != "cpu":
            reasons.append(f"rendered on {self._device.type}, compared with ComfyUI on CPU only")
        label = APPROXIMATE if reasons else found.label
        return Fidelity(label, (*reasons, *found.reasons))

    def render(self, jobs: Sequence[Job], cancel: Cancel | None = None) -> Iterator[Picture]:
        """Render jobs and yield one result for each, in order.

        `cancel` is asked before every node and every evaluation of a model; raises Cancelled.
        """
        check = _checker(cancel)
        for start in range(0, len(jobs), self._batch):
            yield from self._render_together(jobs[start : start + self._batch], check)

    def render_many(
        self,
        workflow: Workflow,
        prompts: Sequence[str],
        seeds: Sequence[int],
        batch: int = 32,
        cancel: Cancel | None = None,
    ) -> list[Pillow.Image]:
        """Render one unbound workflow for many (prompt, seed), `batch` at a time; first images only.

        Raises Refused. Encoded texts are kept between calls, everything else is let go.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds were given.")
        found = self.fidelity(workflow)
        if found.label == REFUSED:
            raise Refused(found.reasons)
        images: list[Pillow.Image] = []
        check = _checker(cancel)
        for start in range(0, len(prompts), batch):
            pairs = zip(prompts[start : start + batch], seeds[start : start + batch], strict=True)
            programs = [_program(bind(workflow, prompt, seed)) for prompt, seed in pairs]
            with self._lock:
                self._refresh([workflow])
                values, _ = self._run(programs, check, batch, KEPT_IN_BULK)
            images += [_pictures(program, values)[0] for program in programs]
        return images

    def _render_together(self, jobs: Sequence[Job], check: Callable[[], None]) -> list[Picture]:
        """Render jobs that may share calls; when one of them fails, each on its own."""
        labels = [self.fidelity(job.workflow) for job in jobs]
        accepted = [job for job, own in zip(jobs, labels, strict=True) if own.label != REFUSED]
        try:
            done = iter(self._render_accepted(accepted, check))
        except RenderError as fault:
            if len(jobs) == 1:
                return [Picture((), Fidelity(REFUSED, (str(fault),)))]
            return [each for job in jobs for each in self._render_together([job], check)]
        return [
            Picture((), own) if own.label == REFUSED else next(done)(own, len(accepted))
            for own in labels
        ]

    def _render_accepted(
        self, jobs: Sequence[Job], check: Callable[[], None]
    ) -> list[Callable[[Fidelity, int], Picture]]:
        began = time.perf_counter()
        programs = [_program(job.workflow) for job in jobs]
        with self._lock:
            self._refresh([job.workflow for job in jobs])
            values, fresh = self._run(programs, check, self._batch, tuple(OPERATIONS))
        seconds = (time.perf_counter() - began) / max(len(jobs), 1)
        results = []
        for program in programs:
            run = len(fresh & program.nodes.keys())
            fresh -= program.nodes.keys()  # a shared node is counted where it was first needed
            results.append(_result(program, _pictures(program, values), seconds, run))
        return results

    def _refresh(self, workflows: Sequence[Workflow]) -> None:
        """Forget all results when a model file that is asked for has changed on disk."""
        assets = {pair for workflow in workflows for pair in _assets(workflow, self._models)}
        if self._library.changed(sorted(assets)):
            self._cache.clear()

    @torch.no_grad()
    def _run(
        self,
        programs: Sequence[_Program],
        check: Callable[[], None],
        batch: int,
        keep: Sequence[str],
    ) -> tuple[dict[str, Any], set[str]]:
        """Compute what the outputs need; return all results, and the digests that were computed."""
        context = Context(self._library, self._device, batch, check)
        values: dict[str, Any] = {}
        wanted = self._wanted(programs, values)
        levels: dict[tuple[int, str], list[str]] = {}
        for digest, node in wanted.items():
            levels.setdefault((node.depth, node.class_type), []).append(digest)
        for _, class_type in sorted(levels):
            names = levels[_, class_type]
            items = [_inputs(wanted[name], values) for name in names]
            for name, result in zip(names, OPERATIONS[class_type](context, items), strict=True):
                values[name] = result
                if class_type in keep:
                    self._cache.put(name, result)
        return values, set(wanted)

    def _wanted(self, programs: Sequence[_Program], values: dict[str, Any]) -> dict[str, _Node]:
        """Return the nodes to compute; results that are in the cache are put into `values`."""
        found: dict[str, _Node] = {}
        for program in programs:
            waiting = list(program.outputs)
            while waiting:
                digest = waiting.pop()
                if digest in found or digest in values:
                    continue
                held = self._cache.get(digest)
                if held is not None:
                    values[digest] = held
                    continue
                found[digest] = program.nodes[digest]
                waiting += [link for link, _ in found[digest].links.values()]
        return found


def _checker(cancel: Cancel | None) -> Callable[[], None]:
    def check() -> None:
        if cancel is not None and cancel():
            raise Cancelled("The render was cancelled.")

    return check


def _program(workflow: Workflow) -> _Program:
    """Turn a valid workflow into nodes by digest."""
    outputs = outputs_of(workflow)
    names = digests(workflow)
    nodes: dict[str, _Node] = {}
    for node in topological_order(workflow, outputs):
        class_type, given = workflow[node]["class_type"], workflow[node]["inputs"]
        links, widgets = {}, {}
        for each in NODES[class_type].inputs:
            link = source(workflow, node, each.name)
            if link is not None:
                links[each.name] = names[link[0]], link[1]
            else:
                widgets[each.name] = given.get(each.name, each.default)
        depth = 1 + max((nodes[digest].depth for digest, _ in links.values()), default=0)
        nodes[names[node]] = _Node(class_type, widgets, links, depth)
    return _Program(nodes, tuple(dict.fromkeys(names[node] for node in outputs)))


def _inputs(node: _Node, values: Mapping[str, Any]) -> dict[str, Any]:
    linked = {name: values[digest][slot] for name, (digest, slot) in node.links.items()}
    return {**node.widgets, **linked}


def _assets(workflow: Workflow, models: Installed) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of every model file that a workflow names, in its texts as well."""
    for node in workflow.values():
        for each in NODES[node["class_type"]].inputs:
            if each.kind:
                yield each.kind, node["inputs"][each.name]
        for name in TEXTS.get(node["class_type"], ()):
            for written in embeddings_in(str(node["inputs"][name])):
                found, _ = embedding_named(written, models.names("embeddings"))
                if found is not None:
                    yield "embeddings", found


def _pictures(program: _Program, values: Mapping[str, Any]) -> tuple[Pillow.Image, ...]:
    """Return the saved images, or the previewed ones when none is saved."""
    saved: list[Saved] = [values[digest][0] for digest in program.outputs]
    chosen = [each for each in saved if each.keep] or saved
    return tuple(to_pillow(image) for each in chosen for image in each.pixels)


def to_pillow(pixels: Tensor) -> Pillow.Image:
    """Turn (height, width, 3) in 0..1 into an image; truncates, as ComfyUI's SaveImage does."""
    scaled = np.nan_to_num(255.0 * pixels.cpu().numpy()).clip(0, 255)
    return Pillow.fromarray(scaled.astype(np.uint8))


def _result(
    program: _Program, images: tuple[Pillow.Image, ...], seconds: float, run: int
) -> Callable[[Fidelity, int], Picture]:
    def finish(own: Fidelity, together: int) -> Picture:
        label = own
        if together > 1:
            label = Fidelity(APPROXIMATE, (BATCHED, *own.reasons))
        return Picture(images, label, seconds, run, len(program.nodes) - run)

    return finish


__all__ = ["Job", "Picture", "Renderer", "to_pillow"]
