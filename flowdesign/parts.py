"""What the studio needs of its parts: policies and a renderer, as protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from flowdesign.workflow import Workflow

if TYPE_CHECKING:
    from PIL.Image import Image

Cancel = Callable[[], bool]


class Sampled(Protocol):
    """One sentence of a policy."""

    @property
    def index(self) -> int: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...


class Designer(Protocol):
    """What the studio needs of a policy (`flowdesign.sampling.Speaker`)."""

    def sample_stream(
        self,
        prompt: str,
        n: int,
        seed: int,
        temperature: float,
        top_p: float,
        *,
        constrained: bool,
        cancel: Cancel | None,
        fixed: Sequence[str],
    ) -> Iterator[Sampled]:
        """Draw n sentences and yield each as it ends; `fixed` words are said in each."""


class Designers(Protocol):
    """Where the studio gets a policy from (`flowdesign.policies.Policies`)."""

    def check(self, name: str, scale: float | None) -> Any:
        """Give one with a `name`: the policy of this name, the usual one for none.

        Raises BadRequest when there is no such policy, or no guidance for it.
        """

    def speaker(self, name: str, scale: float | None) -> Designer:
        """Load it, with guidance at this scale. Raises BadRequest."""


class Fidelity(Protocol):
    """How near a render is to ComfyUI's: "exact", "approximate" or "refused", and why."""

    @property
    def label(self) -> str: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...


class Picture(Protocol):
    """One job's result."""

    @property
    def images(self) -> Sequence[Image]: ...
    @property
    def fidelity(self) -> Fidelity: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Job:
    """What a renderer is asked to run: a workflow that is bound to a prompt and a seed."""

    workflow: Workflow


class Renderer(Protocol):
    """What the studio needs of a renderer (`flowdesign.render.Renderer`)."""

    def render(self, jobs: Sequence[Any], cancel: Cancel | None = None) -> Iterator[Picture]:
        """Run each job's workflow; `cancel` is asked before every sampler step."""

    def fidelity(self, workflow: Workflow) -> Fidelity:
        """How near to ComfyUI's a workflow will be rendered, without rendering it."""
