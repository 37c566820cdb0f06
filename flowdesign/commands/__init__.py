"""What the command line does: one function for each command, which answers with an exit status.

designing   on single workflows: design, render, validate, convert
training    runs: collect, zoo, sft, reward, grpo, evaluate; reproduce
answers     how they answer
"""
