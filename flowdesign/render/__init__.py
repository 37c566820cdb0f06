"""Render: a workflow becomes images by the rules by which ComfyUI runs the same graph.

The project owns noise levels, timesteps, noise, samplers and text handling; diffusers and
transformers own the UNet, the VAE and the text encoders.
"""

from flowdesign.render.engine import Job, Picture, Renderer
from flowdesign.render.errors import (
    BadWorkflow,
    Cancelled,
    Refused,
    RenderError,
    UnknownSampler,
    UnknownScheduler,
    UnsupportedModel,
)
from flowdesign.render.fidelity import Fidelity, fidelity
from flowdesign.render.operations import OPERATIONS

__all__ = [
    "OPERATIONS",
    "BadWorkflow",
    "Cancelled",
    "Fidelity",
    "Job",
    "RenderError",
    "Picture",
    "Renderer",
    "Refused",
    "UnknownSampler",
    "UnknownScheduler",
    "UnsupportedModel",
    "fidelity",
]
