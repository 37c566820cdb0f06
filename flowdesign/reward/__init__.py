"""The reward ensemble: predict an image's score from (prompt, workflow), without the image."""

from flowdesign.catalog import ROOT

SHIPPED = ROOT / "checkpoints" / "reward"  # the folder of the ensemble that is used unless told
HEAD = "reward.json"  # says how an ensemble's weights are to be read
