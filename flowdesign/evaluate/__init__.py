"""Evaluation: ways to a workflow for a prompt, rendered and judged on held-out prompts.

contestants   those who are compared; one table to add another
baselines     those that choose from a few workflows; `setting` has what all of them may use
searching     the expensive upper bound: search by rendering
gallery       renders and judges what is asked for, once
run           the stages of an evaluation
report        the figures: `measured` are the arrays, `diversity` is what is not quality
command       python -m flowdesign evaluate
"""
