"""Ablation: the same prompts and the same chance under other settings, laid out as an X/Y grid.

    setting -> plan -> cells -> outcomes -> curves, contact sheet, CSV

A *setting* is what a person typed, a *plan* the cells that it makes, an *outcome* what came of one cell.
All that a cell depends on is in its `Request`, so equal cells are made once.
"""
