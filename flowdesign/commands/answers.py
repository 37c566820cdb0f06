"""How a command answers: on standard output for people or as JSON, and what is wrong on standard error."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UsageError(Exception):
    """A command that cannot be carried out; the message goes to the person who typed it."""


def act(flags: argparse.Namespace) -> int:
    """Do the action of a command that has several, and show its answer."""
    result, text = flags.work(flags)
    show(result, flags.json, text)
    return 0


def any_letter() -> None:
    r"""Let letters that a terminal does not have be printed as \xe9, which it has."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(result: object, as_json: bool, text: str) -> None:
    """Print a result as JSON, in which other letters than a terminal has are said by their number, or the text."""
    few = not (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(result, indent=2, ensure_ascii=few) if as_json else text)


@contextmanager
def telling(*kinds: type[Exception]) -> Iterator[None]:
    """Turn these errors, whose modules are too heavy for the top of this one, into UsageError."""
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error


def tell(line: str) -> None:
    """Print a line of progress or a problem, beside the result."""
    print(line, file=sys.stderr, flush=True)


def quiet() -> None:
    """Keep the libraries' progress bars and advice out of the output."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


def existing(file: Path) -> Path:
    """The file, if there is one. Raises UsageError."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}")
    return file


def add_json(command: argparse.ArgumentParser) -> None:
    """Declare --json."""
    command.add_argument("--json", action="store_true", help="print JSON only")
