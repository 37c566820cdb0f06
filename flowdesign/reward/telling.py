"""The report's figures as a text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Figure = Mapping[str, float | None]
BOTH = "both unseen"  # the part that counts: neither prompt nor workflow was learned from
COLUMNS = {
    "within_spearman": "Spearman within prompt",
    "pair_accuracy": "better of two told",
    "spearman": "Spearman overall",
    "explained": "explainable variance reached",
    "regret": "top-1 regret",
    "regret_share": "regret of (best - random)",
}
UNCERTAINTY = {
    "within_of_ceiling": "Spearman within prompt / ceiling",
    "coverage": "90 % intervals cover",
    "width": "mean width",
    "spread_error": "Spearman of spread and error",
}
CEILINGS = {
    "within_spearman": "Spearman within prompt",
    "total_variance": "variance of single scores",
    "seed_variance": "of it by the seed",
    "explainable_variance": "of it explainable",
}
FAR = {"prompts": "prompts of another world", "words": "words that it never met"}
SIZES = ("images", "pairs", "prompts", "workflows")


def tell_report(figures: Mapping[str, Any]) -> str:
    """The parts and the bars, with their intervals, for people."""
    lines: list[str] = []
    for name, part in figures["parts"].items():
        lines += [*_part(name, part), ""]
    lines.append("Bars, on both unseen")
    lines += [_bar(each) for each in figures["bars"]]
    for name, each in figures.get("growth", {}).items():
        lines.append(
            f"Spread far from the data ({FAR[name]}): {_told(each)} times that of test rows"
        )
    data = figures.get("data", {})
    if data.get("learned", data.get("digest")) != data.get("digest"):
        lines.append("Measured on other records than those that it learned from")
    return "\n".join(lines)


def _part(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    size = part["size"]
    counts = ", ".join(f"{size[each]:,} {each}" for each in SIZES)
    yield f"{name.capitalize()}: {counts}"
    if not size["pairs"]:
        yield "  nothing to measure with"
        return
    yield (
        f"  within prompt: {size['prompts_judged']} prompts judged, {size['prompts_left_out']} left out "
        "(too few workflows, or equal scores)"
    )
    yield from _table("what seeds allow", CEILINGS, {"ceiling": part["ceilings"]})
    yield from _table("how sure", UNCERTAINTY, {"ensemble": part["ensemble"]})
    yield from _table("how good", COLUMNS, {"ensemble": part["ensemble"]} | part["baselines"])


def _table(
    title: str, rows: Mapping[str, str], columns: Mapping[str, Mapping[str, Figure]]
) -> Iterator[str]:
    cells = [[title, *columns]]
    cells += [[label, *(_told(of[key]) for of in columns.values())] for key, label in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  " + _row(row, widths)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _told(figure: Figure) -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{value:.3f}{interval}"


def _bar(bar: Mapping[str, Any]) -> str:
    said = "reached" if bar["reached"] else "NOT reached"
    return f"  {said:11}  {bar['name']}: {_told(bar)} ({bar['bound']})"
