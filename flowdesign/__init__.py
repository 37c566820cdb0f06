"""FlowDesign: a prompt becomes a workflow, and the workflow becomes an image.

The package follows the data: ``catalog`` and ``nodes`` say what exists, ``workflow`` holds the
ComfyUI graph, ``tokens`` the sentences a policy speaks, ``comfy`` the files, ``render`` the images.
"""

__version__ = "0.1.0"
