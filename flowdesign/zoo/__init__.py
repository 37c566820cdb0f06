"""Train and measure the miniature models (python -m flowdesign zoo)."""

from flowdesign.zoo.command import command

__all__ = ["command"]
