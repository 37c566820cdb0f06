"""What the Data tab's jobs do with records. Each is called in the background, with its job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from flowdesign.critic import Critic
from flowdesign.records import (
    PREDICTED,
    ExchangeError,
    Store,
    StoredRecord,
    UnknownRecord,
    exchange,
)
from flowdesign.records.exchange import Exported
from flowdesign.scorers import Scorer, ScorerError, load, score_all
from flowdesign.ui.data_predict import expected_of, kept_as
from flowdesign.ui.files import Exports
from flowdesign.ui.jobs import Job, Told
from flowdesign.ui.selection import Selection, in_groups, say
from flowdesign.ui.thumbnails import MAX_PIXELS

GROUP = 16  # images held at once; a large one takes some 4 MB
PREDICTED_AT_ONCE = 512  # records


@dataclass(frozen=True)
class ExportOf:
    """What to export, and how."""

    chosen: Selection
    format_name: str
    images: bool


def rescore(
    job: Job, store: Store, chosen: Selection, names: Sequence[str], critic: Critic | None = None
) -> str:
    """Store scores over the older ones: of images by these scorers, of texts by a reward ensemble."""
    scorers = [name for name in names if name != PREDICTED]
    job.total = chosen.count(store)[0] * (bool(scorers) + (critic is not None))
    said = [_rescore(job, store, chosen, scorers)] if scorers else []
    said += [_predict(job, store, chosen, critic)] if critic is not None else []
    return "; ".join(said)


def _rescore(job: Job, store: Store, chosen: Selection, names: Sequence[str]) -> str:
    try:
        scorers = [load(name) for name in names]
    except ScorerError as fault:
        raise Told(str(fault)) from fault
    scored = left_out = 0
    for group in in_groups(chosen.records(store), GROUP):
        found = _scores(store, group, scorers)
        if found:
            _keep(store, found)
        scored, left_out = scored + len(found), left_out + len(group) - len(found)
        job.step(len(group))
    without = f"; {say(left_out)} without a readable image left out" if left_out else ""
    return f"{say(scored)} scored by {', '.join(names)}{without}"


def _predict(job: Job, store: Store, chosen: Selection, critic: Critic) -> str:
    kept = left_out = 0
    for group in in_groups(chosen.records(store), PREDICTED_AT_ONCE):
        try:
            said = expected_of(critic, group)
        except ValueError as fault:
            raise Told(str(fault)) from fault
        rows = {
            record.id or 0: kept_as(expected)
            for record, expected in zip(group, said, strict=True)
            if expected is not None
        }
        _keep(store, rows)
        kept, left_out = kept + len(rows), left_out + len(group) - len(rows)
        job.step(len(group))
    without = f"; {say(left_out)} outside the language left out" if left_out else ""
    return f"{say(kept)} predicted{without}"


def _scores(
    store: Store, records: Sequence[StoredRecord], scorers: Sequence[Scorer]
) -> dict[int, dict[str, float]]:
    pictures = [(record, _picture(store, record)) for record in records]
    known = [(record, picture) for record, picture in pictures if picture is not None]
    if not known:
        return {}
    prompts = [record.prompt for record, _ in known]
    rows = score_all(scorers, prompts, [picture for _, picture in known])
    return {record.id or 0: row for (record, _), row in zip(known, rows, strict=True)}


def _picture(store: Store, record: StoredRecord) -> Image.Image | None:
    """A record's image in memory; None when it has none or the file is no picture."""
    path = store.image_path(record.image)
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB") if image.width * image.height <= MAX_PIXELS else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _keep(store: Store, scores: dict[int, dict[str, float]]) -> None:
    """Store scores; a record that was removed for good meanwhile is left out."""
    try:
        store.add_scores(scores)
    except UnknownRecord:
        for number, row in scores.items():
            try:
                store.add_scores({number: row})
            except UnknownRecord:
                continue


def delete(store: Store, chosen: Selection, who: str) -> str:
    """Take many records out of sight, all or none."""
    ids = list(chosen.numbers(store))
    store.delete(ids, who)
    return f"{say(len(ids))} deleted; to bring them back choose Records: deleted under More filters"


def export(job: Job, store: Store, wanted: ExportOf, exports: Exports) -> str:
    """Write a zip file with tables, images and a dataset card, and link it from the job.

    Raters have other names in it: whoever can see the page can take the file.
    """
    job.total = wanted.chosen.count(store)[0]
    path = exports.new()

    def counted(done: Exported) -> None:
        job.step(done.records - job.done)

    try:
        done = exchange.export(
            store,
            path,
            wanted.format_name,
            wanted.chosen.as_filter(),
            images=wanted.images,
            hide_raters=True,
            on_batch=counted,
        )
    except ExchangeError as fault:
        raise Told(str(fault)) from fault
    job.link = (exports.address(path), f"Download ({path.stat().st_size / 1e6:,.1f} MB)")
    return f"{say(done.records)}, {done.images:,} images, {done.votes:,} votes"
