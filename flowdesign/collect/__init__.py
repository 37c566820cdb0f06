"""Collect: render and score prompts x workflows x seeds, and keep what comes of it as records.

    prompts    from a file or from the grammar of the miniature world
    plan       which prompt meets which workflow, with which seeds
    batches    what is rendered together
    making     what a worker does: render, score, put into a PNG
    crew       the workers: processes of this machine, or on Ray (on_ray)
    run        the run: from the plan to the records, resumable

The command is `python -m flowdesign collect`. Importing this loads no torch.
"""

from flowdesign.collect.run import collect, source_of

__all__ = ["collect", "source_of"]
