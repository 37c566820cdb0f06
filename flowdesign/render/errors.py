"""What can go wrong when a workflow is rendered. Every message is for a person.

RenderError
├── UnknownSampler      no sampler has this name
├── UnknownScheduler    no schedule has this name
├── UnsupportedModel    the files of a model are of a kind that is not loaded here
├── BadWorkflow         the nodes cannot be run together (for instance latents of another model)
└── Refused             the workflow was refused before it ran; `reasons` say why
Cancelled               the caller asked to stop; not a fault
"""

from __future__ import annotations


class RenderError(ValueError):
    """A workflow cannot be rendered."""


class UnknownSampler(RenderError):
    """No sampler has this name; the message suggests one."""


class UnknownScheduler(RenderError):
    """No schedule has this name; the message suggests one."""


class UnsupportedModel(RenderError):
    """A model's files are missing, damaged, or of a kind that is not loaded here."""


class BadWorkflow(RenderError):
    """Nodes that cannot be run together."""


class Refused(RenderError):
    """The workflow was refused before anything ran."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Cancelled(Exception):
    """The caller asked to stop."""
