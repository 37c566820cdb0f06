"""What the Train tab shows of runs, as HTML: the machine, the list, one run opened, the trash."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from flowdesign.ui import cards
from flowdesign.ui.charts import number
from flowdesign.ui.train_estimate import Estimate
from flowdesign.ui.train_keeping import Trashed
from flowdesign.ui.train_runs import Run

MAX_FIGURES = 60  # rows of a table
MAX_SHOWN = 60  # runs in the list

_CHIPS: Mapping[str, tuple[str, str]] = {
    "queued": ("", "Waits for the machine"),
    "starting": ("fd-warn fd-busy", "The process loads its libraries"),
    "running": ("fd-ok fd-busy", "At work"),
    "stopping": ("fd-warn fd-busy", "Ends after the step it is in"),
    "stopped": ("", "Can go on"),
    "finished": ("fd-ok", "All steps are done"),
    "failed": ("fd-bad", "Ended with an error"),
    "crashed": ("fd-bad", "The process ended without a word"),
}
_ENDED = {  # how a process ended, in words
    -9: "It was killed (signal 9): somebody ended it, or the system ran out of memory.",
    -11: "It ended with a segmentation fault (signal 11).",
    -15: "It was asked to end (signal 15) before it could stop.",
}


def span(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def size(count: float) -> str:
    """Bytes as people say them."""
    if count < 1e6:
        return f"{max(1, round(count / 1e3))} kB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def when(moment: float) -> str:
    """A moment in seconds since the epoch; nothing for none."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment)) if moment else ""


def machine(runs: Sequence[Run], left: Mapping[str, float]) -> str:
    """Who holds the machine, and who waits."""
    at_work = [run for run in runs if run.open and run.state != "queued"]
    line = [run for run in runs if run.state == "queued"]
    if not at_work:
        said = "No run is at work: a new one starts at once."
    else:
        said = "; ".join(_at_work(run, left.get(run.name)) for run in at_work) + "."
    if line:
        said += " In the queue: " + ", ".join(run.name for run in line) + "."
    return cards.status(said, "busy" if at_work else "")


def _at_work(run: Run, left: float | None) -> str:
    """A run at work in a few words."""
    if run.state == "starting":
        return f"{run.name} is starting"
    words = f"{run.name} is at step {run.step:,} of {run.total:,}"
    return words + (f", about {span(left)} left" if left is not None else "")


def run_list(runs: Sequence[Run], opened: str, ticked: Collection[str]) -> str:
    """All runs: a button that opens each, and a box that draws its curves beside the opened one's."""
    if not runs:
        return '<div class="fd-empty">No runs yet. Start one under New run.</div>'
    rows = "".join(_row(run, run.name == opened, run.name in ticked) for run in runs[:MAX_SHOWN])
    more = len(runs) - MAX_SHOWN
    cut = f'<p class="fd-note">{more:,} older runs are not shown.</p>' if more > 0 else ""
    return f'<ul class="fd-runs">{rows}</ul>{cut}'


def _row(run: Run, opened: bool, ticked: bool) -> str:
    name = escape(run.name)
    current = ' aria-current="true"' if opened else ""
    tick = (
        f'<label title="Compare"><input type="checkbox" data-compare="{name}" '
        f'aria-label="Compare {name}"{" checked" if ticked else ""}></label>'
    )
    kind = run.kind.name if run.kind else "unknown kind"
    about = ", ".join(filter(None, [kind, "shipped" if run.shipped else "", when(run.updated)]))
    return (
        f'<li{current}>{tick}<button type="button" data-run="{name}"{current}><b>{name}</b>'
        f"<small>{escape(about)}</small></button>{_meter(run)}{state_chip(run)}</li>"
    )


def state_chip(run: Run) -> str:
    """The state of a run as a small label."""
    css, about = _CHIPS[run.state]
    words = f"queued, place {run.place}" if run.state == "queued" else run.state
    return cards.chip(words, css, about)


def _meter(run: Run) -> str:
    if not run.total:
        return '<span class="fd-meter"></span>'
    share = min(1.0, run.step / run.total)
    words = f"step {run.step:,} of {run.total:,}"
    return (
        f'<span class="fd-meter"><progress max="1" value="{share:.4f}" aria-label="{words}">'
        f"</progress><small>{words}</small></span>"
    )


def head(run: Run, left: float | None, logged: str, notes: str) -> str:
    """The opened run: state, progress, notes, and what went wrong with the last lines of its log."""
    kind = run.kind.title if run.kind else "of a kind that this page does not know"
    shipped = cards.chip("shipped, read only", "fd-plain") if run.shipped else ""
    written = f'<p class="fd-say fd-notes">{escape(notes.strip())}</p>' if notes.strip() else ""
    return (
        f'<article class="fd-run" tabindex="-1" data-name="{escape(run.name)}" '
        f'aria-label="Run {escape(run.name)}">'
        f'<div class="fd-title"><h3>{escape(run.name)}</h3>{state_chip(run)}{shipped}</div>'
        f'<p class="fd-note">{escape(kind)}</p>{_meter(run)}'
        f'<p class="fd-note">{escape(_progress(run, left))}</p>{_trouble(run, logged)}'
        f"{written}</article>"
    )


def gone(name: str) -> str:
    """In the place of a run that was open and is not there any more."""
    words = f"The run '{name}' is not here any more: it was renamed or deleted. Choose another."
    return f'<div class="fd-empty">{escape(words)}</div>'


def _progress(run: Run, left: float | None) -> str:
    if run.state == "queued":
        return f"It starts when the machine is free; place {run.place} in the queue."
    if run.state == "starting":
        return "Its process is starting; the first step takes longest."
    launch = run.launch
    words = [f"about {span(left)} left" if left is not None and run.open else ""]
    words.append(f"started {when(launch.started)}" if launch and launch.started else "")
    words.append(f"by {launch.who}" if launch and launch.who else "")
    words.append(f"{size(launch.memory)} of memory at most" if launch and launch.memory else "")
    words.append(f"last seen {when(run.updated)}" if not run.open and run.updated else "")
    found = ", ".join(filter(None, words))
    return found[:1].upper() + found[1:]


def _trouble(run: Run, logged: str) -> str:
    """What went wrong, for a run that failed or crashed."""
    if run.state not in ("failed", "crashed"):
        return ""
    code = run.launch.code if run.launch else None
    words = run.message
    if run.state == "crashed":
        known = (
            f"It ended with exit code {code}." if code is not None else "It ended without a word."
        )
        words = f"{_ENDED.get(code, known) if code is not None else known} What it saved is kept."
    elif code in _ENDED and not run.message:
        words = _ENDED[code]
    lines = f'<pre class="fd-log" tabindex="0">{escape(logged)}</pre>' if logged else ""
    return f'<div class="fd-trouble" role="alert"><p>{escape(words)}</p>{lines}</div>'


def log(text: str) -> str:
    """The end of a log."""
    if not text:
        return '<p class="fd-note">Nothing has been written yet.</p>'
    return f'<pre class="fd-log" tabindex="0" aria-label="Log">{escape(text)}</pre>'


def table(figures: Mapping[str, Any]) -> str:
    """Measured figures, however deep they are nested; nothing when there are none."""
    rows = list(_flat(figures))
    if not rows:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows[:MAX_FIGURES]
    )
    more = len(rows) - MAX_FIGURES
    cut = f'<p class="fd-note">{more} more are in figures.json.</p>' if more > 0 else ""
    return f'<h4>Figures</h4><table class="fd-figures"><tbody>{lines}</tbody></table>{cut}'


def options(
    command: str, values: Mapping[str, Any], compared: Mapping[str, Mapping[str, Any]]
) -> str:
    """What a run was asked for; where runs are compared, the options in which they differ."""
    shown = f'<pre class="fd-log" tabindex="0" aria-label="Command">{escape(command)}</pre>'
    if len(compared) < 2:
        rows = [(name, [_said(value)]) for name, value in values.items()]
        return shown + _columns(["Option", "Value"], rows)
    names = list(dict.fromkeys(name for one in compared.values() for name in one if name != "run"))
    differing = [
        (name, [_said(one.get(name, "")) for one in compared.values()])
        for name in names
        if len({_said(one.get(name, "")) for one in compared.values()}) > 1
    ]
    if not differing:
        return f'{shown}<p class="fd-note">The compared runs have the same options.</p>'
    return shown + _columns(["Differs", *compared], differing)


def expectation(found: Estimate) -> str:
    """What a run will take, before it starts, and how that is known."""
    time_ = "unknown" if found.seconds is None else f"about {span(found.seconds)}"
    memory = "unknown" if found.memory is None else f"about {size(found.memory)}"
    source = f" ({found.memory_source})" if found.memory_source else ""
    return (
        f'<p class="fd-say fd-expect"><b>Time</b> {time_} <small>({escape(found.source)})</small> '
        f"<b>Memory</b> {memory}<small>{escape(source)}</small></p>"
    )


def trash(found: Sequence[Trashed], may: bool) -> str:
    """The deleted runs, each with a button that brings it back."""
    if not found:
        return '<p class="fd-note">Nothing has been deleted.</p>'
    off = "" if may else " disabled"
    rows = "".join(
        f"<li><span><b>{escape(one.name)}</b> <small>{size(one.size)}, deleted {when(one.when)}"
        f'</small></span><button type="button" data-back="{escape(one.token)}"{off}>Bring back'
        f'<span class="fd-sr"> {escape(one.name)}</span></button></li>'
        for one in found
    )
    return f'<ul class="fd-runs">{rows}</ul>'


def _columns(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    top = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(value)}</td>" for value in values)
        + "</tr>"
        for name, values in rows
    )
    return (
        '<div class="fd-sideways" tabindex="0" role="group" aria-label="Options"><table '
        f'class="fd-figures"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Nested figures as rows: "grammar, samples"."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}, {key}" if name else str(key))
    elif isinstance(value, list) and (len(value) > 8 or any(isinstance(v, dict) for v in value)):
        yield name, f"{len(value):,} values"
    else:
        yield name, _said(value)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_said(one) for one in value)
    return "" if value is None else str(value)
