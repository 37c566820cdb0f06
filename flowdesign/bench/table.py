"""The table of benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from flowdesign.bench.measured import Measured, Say, UnknownBenchmark
from flowdesign.catalog import suggest


@dataclass(frozen=True)
class Benchmark:
    """`module` has a function `measure(quick: bool, say: Say) -> Measured`."""

    name: str
    module: str
    about: str

    def measure(self, quick: bool, say: Say) -> Measured:
        """Import the benchmark and run it."""
        work: Callable[[bool, Say], Measured] = import_module(self.module).measure
        return work(quick, say)


_ALL = (
    Benchmark("design", "flowdesign.bench.design", "seconds from a request to its first image"),
    Benchmark("records", "flowdesign.bench.records", "the store, from 1,000 to 1,000,000 records"),
    Benchmark("label", "flowdesign.bench.label", "50 raters at once over HTTP, 2,000 votes"),
    Benchmark("collect", "flowdesign.bench.collect", "images rendered and scored in a second"),
    Benchmark(
        "reward", "flowdesign.bench.reward", "scores predicted in a second, against rendering"
    ),
    Benchmark("grpo", "flowdesign.bench.grpo", "seconds for a step of GRPO, against TRL"),
    Benchmark(
        "guidance", "flowdesign.bench.guidance", "seconds for 16 guided designs, against generate"
    ),
    Benchmark(
        "families", "flowdesign.bench.families", "time and memory of an image of each family"
    ),
    Benchmark(
        "large", "flowdesign.bench.large", "a step of SFT and GRPO with an 8B policy on a GPU"
    ),
    Benchmark(
        "import", "flowdesign.bench.imports", "import of templates and of 10,000 faulty files"
    ),
    Benchmark(
        "workflows",
        "flowdesign.bench.workflows",
        "64 workflows that share parts, against diffusers",
    ),
)
BENCHMARKS = {each.name: each for each in _ALL}


def run(names: list[str], quick: bool, say: Say) -> dict[str, Measured]:
    """Run benchmarks by name, all of them when none is named. Raises UnknownBenchmark first."""
    for name in names:
        if name not in BENCHMARKS:
            raise UnknownBenchmark(f"Unknown benchmark '{name}'. {suggest(name, BENCHMARKS)}")
    return {name: BENCHMARKS[name].measure(quick, say) for name in names or BENCHMARKS}
