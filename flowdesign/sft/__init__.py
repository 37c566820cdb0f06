"""SFT: the policy learns the vocabulary of workflows (paper, phase 1)."""
