"""A workflow as a Python script for diffusers, which runs where FlowDesign is not installed.

Stock pipelines and schedulers do the work wherever they come to ComfyUI's result; what diffusers lacks is
copied into the script from this package, so there is one source of it. The script's header says which
pass is exact and which is not, and why.
"""

from flowdesign.standalone.script import Script, write_script

__all__ = ["Script", "write_script"]
