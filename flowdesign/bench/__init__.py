"""Benchmarks: what is promised of speed and memory, measured.

    python -m flowdesign bench [NAME ...] [--quick] [--json]

A benchmark is a function `measure(quick, say)` that gives a `Measured`, and one line in BENCHMARKS. It
is imported when it runs, so that the table costs nothing. `quick` asks for a small version in seconds,
for trying it out; figures to publish are of the full one. `say` takes a line about progress.
"""

from flowdesign.bench.measured import Measured, Say, UnknownBenchmark, as_text
from flowdesign.bench.table import BENCHMARKS, Benchmark, run

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Measured",
    "Say",
    "UnknownBenchmark",
    "as_text",
    "run",
]
