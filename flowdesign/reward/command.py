"""What `python -m flowdesign reward` does, for the command line: train, measure, print."""

from __future__ import annotations

from pathlib import Path

from flowdesign import runs
from flowdesign.config import RewardConfig
from flowdesign.reward.telling import tell_report

SHIPPED = "reward"  # the run whose figures are shown unless another is named
HOW = "Train an ensemble: python -m flowdesign reward"  # to get figures
tell = tell_report


def faults() -> tuple[type[Exception], ...]:
    """What may go wrong that a person can put right."""
    from flowdesign.reward.ensemble import RewardError

    return runs.NotANumber, RewardError


def train(config: RewardConfig, folder: Path) -> runs.Steps:
    """The steps of a run."""
    from flowdesign.reward.run import train

    return train(config, folder)


def measure(config: RewardConfig, folder: Path) -> None:
    """Measure a finished ensemble again, on the records that the config names.

    Raises RewardError, RewardDataError, lm.WeightsNotFound.
    """
    import torch

    from flowdesign.reward.data import check_table, read_table
    from flowdesign.reward.ensemble import Ensemble
    from flowdesign.reward.measuring import write_measured

    torch.set_num_threads(config.threads)
    ensemble = Ensemble.load(folder, config.device, config.workers)
    table = read_table(config)
    check_table(table)
    write_measured(ensemble, table, folder, config)
