"""GRPO: the policy is improved against the reward ensemble (paper, phase 2); nothing is rendered."""

SAMPLES = "samples.jsonl"  # of a run: what the policy says at its looks
