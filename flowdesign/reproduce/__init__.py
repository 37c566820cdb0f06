"""The whole paper in one command: python -m flowdesign reproduce --preset laptop

presets    the stages of each preset, as configs of the runs that they are
chain      does them one after the other, each by the command that a person would type
results    RESULTS.md: tables, plots, hardware, seeds, times
plots      line charts as SVG
"""
