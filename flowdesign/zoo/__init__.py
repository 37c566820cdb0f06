"""Train and measure the miniature models (python -m flowdesign zoo).

Nothing heavy is imported here; see `command`.
"""
