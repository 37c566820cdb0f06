"""The jobs of this process on a page: a bar for each, a button that stops it, and news when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from flowdesign.access import Action, Person
from flowdesign.ui import cards
from flowdesign.ui.gate import Gate
from flowdesign.ui.handlers import QUIET, Updates, pressed, pressing
from flowdesign.ui.jobs import Job, Jobs, TooMany, Work

EVERY = 1.0  # seconds between two looks while a job is open


class JobsView:
    """The place where jobs show. Other parts start theirs through `start`."""

    def __init__(self, jobs: Jobs, gate: Gate) -> None:
        self.jobs = jobs
        self.gate = gate
        self.place = cards.html(elem_id="fd-jobs", js_on_load=pressing("job"))
        self.timer = gr.Timer(EVERY, active=False)
        self.open = gr.State(0)  # jobs that this page last saw open
        self.news = gr.State(False)  # whether one of them has ended since
        self.place.click(gate.reads_for(self.press), None, self.outputs, **QUIET)
        looking = gate.reads(self.look)
        self.looked = self.timer.tick(looking, self.open, [*self.outputs, self.news], **QUIET)

    @property
    def outputs(self) -> list[Any]:
        """The components that `start` and `show` update."""
        return [self.place, self.timer, self.open]

    def on_look(self, handler: Any, inputs: list[Any], outputs: list[Any]) -> None:
        """Call `handler` after each look; its first input says whether a job has ended since."""
        self.looked.then(handler, [self.news, *inputs], outputs, **QUIET)

    def start(self, title: str, work: Work, action: Action | None = None) -> Updates:
        """Begin a job and show it. Raises gr.Error when too many wait."""
        try:
            self.jobs.start(title, work, action)
        except TooMany as refusal:
            raise gr.Error(str(refusal), print_exception=False) from refusal
        return self.show()

    def show(self) -> Updates:
        """The jobs as they are now; keeps looking while one is open."""
        jobs = self.jobs.shown()
        still_open = sum(job.open for job in jobs)
        return {
            self.place: bars(jobs),
            self.timer: gr.Timer(active=still_open > 0),
            self.open: still_open,
        }

    def look(self, before: int) -> Updates:
        """What the timer asks for."""
        updates = self.show()
        return updates | {self.news: updates[self.open] < before}

    def press(self, person: Person, event: gr.EventData) -> Updates:
        """Stop a job, if the person may do what it does, or take the ended ones off the list."""
        asked = pressed(event, "job")
        if asked == "ended":
            self.jobs.forget()
        job = self.jobs.find(int(asked[:18])) if asked.isdecimal() else None
        if job is not None:
            if job.action is not None:
                self.gate.admit(person, job.action)
            job.stop()
        return self.show()


def bars(jobs: Sequence[Job]) -> str:
    """One line for each job; nothing at all when there is none."""
    if not jobs:
        return ""
    rows = "".join(_bar(job) for job in jobs)
    done = all(not job.open for job in jobs)
    close = '<button type="button" data-job="ended">Put away</button>' if done else ""
    return f'<div class="fd-jobs" role="status">{rows}{close}</div>'


def _bar(job: Job) -> str:
    stop = (
        f'<button type="button" data-job="{job.number}" aria-label="Stop: {escape(job.title)}">'
        "Stop</button>"
        if job.open and not job.stopping
        else ""
    )
    share = job.done / job.total if job.total else None
    meter = (
        f'<progress max="1" value="{share:.4f}" aria-label="{escape(job.title)}"></progress>'
        if job.open and share is not None
        else '<progress aria-label="under way"></progress>'
        if job.open
        else ""
    )
    css = " fd-is-bad" if job.state == "failed" else ""
    made = ""
    if job.link:
        address, words = job.link
        made = f'<a class="fd-get" href="{escape(address)}" download>{escape(words)}</a>'
    return (
        f'<div class="fd-job{css}"><b>{escape(job.title)}</b>{meter}<span>{escape(_words(job))}'
        f"</span>{made}{stop}</div>"
    )


def _words(job: Job) -> str:
    if job.stopping:
        return "stopping…"
    if job.state == "waiting":
        return "waits for the job before it"
    counted = f"{job.done:,} of {job.total:,}" if job.total else f"{job.done:,} so far"
    if job.state == "running":
        left = job.seconds_left()
        return counted + (f", about {_duration(left)} left" if left is not None else "")
    if job.state == "stopped":
        return f"stopped after {job.done:,}; what was done is kept"
    return job.said or "done"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
