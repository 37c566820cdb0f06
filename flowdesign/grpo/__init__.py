"""GRPO: the policy is improved against the reward ensemble (paper, phase 2); nothing is rendered."""
