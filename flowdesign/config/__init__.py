"""One pydantic model per kind of run: it makes the command line, the saved file and the checks.

A run's options are named here and nowhere else. `add_flags` turns a model's fields into argparse
flags, `from_flags` turns parsed flags back into a model, `save` and `load` keep it beside the run.
"""

from flowdesign.config.learning import GRPOConfig, RewardConfig, SFTConfig, ZooConfig
from flowdesign.config.options import (
    ConfigError,
    ConfigT,
    Options,
    OptionsT,
    RunConfig,
    RunName,
    Step,
    add_command,
    add_flags,
    as_text,
    build,
    from_flags,
    listed,
    load,
    plain_type,
    save,
    to_flags,
)
from flowdesign.config.rendering import (
    CollectConfig,
    EvaluateConfig,
    RenderConfig,
    ScoreConfig,
    WeightConfig,
    Weights,
    read_weights,
)

__all__ = [
    "CollectConfig",
    "ConfigError",
    "ConfigT",
    "EvaluateConfig",
    "GRPOConfig",
    "Options",
    "OptionsT",
    "RenderConfig",
    "RewardConfig",
    "RunConfig",
    "RunName",
    "SFTConfig",
    "ScoreConfig",
    "Step",
    "WeightConfig",
    "Weights",
    "ZooConfig",
    "add_command",
    "add_flags",
    "as_text",
    "build",
    "from_flags",
    "listed",
    "load",
    "plain_type",
    "read_weights",
    "save",
    "to_flags",
]
