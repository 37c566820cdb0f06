"""What a workflow is made of: every node type, declared once, as data.

Names, order, defaults and ranges of inputs are ComfyUI's (0.3.64), because its files list widget
values by position. From a declaration follow validation, the vocabulary (`bins`), import and
export, the tooltip, and the renderer's table, which has one function for each node type.
"""

from flowdesign.nodes.declaration import MAX_SEED, MAX_SIDE, SOCKETS, WIDGETS, Input, NodeType
from flowdesign.nodes.table import IMAGE_METHODS, LATENT_METHODS, NODE_TYPES, NODES

__all__ = [
    "IMAGE_METHODS",
    "LATENT_METHODS",
    "MAX_SEED",
    "MAX_SIDE",
    "NODES",
    "NODE_TYPES",
    "SOCKETS",
    "WIDGETS",
    "Input",
    "NodeType",
]
