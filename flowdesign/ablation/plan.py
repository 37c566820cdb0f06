"""The plan of an ablation: which cells there are, and what each is asked.

All prompts meet all seeds and all values of both axes. Where prompts or seeds are not on an axis, the
grid is repeated for each of them, one *sheet* below the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flowdesign.ablation.axes import Kind, Offer, Value, kind_of
from flowdesign.ablation.ranges import whole_numbers
from flowdesign.ablation.setting import Setting
from flowdesign.policies import Policies
from flowdesign.request import MAX_SAID, BadRequest, Request, check_prompt, check_seed
from flowdesign.tokens import Automaton, CannotFix, restrict
from flowdesign.tokens.restriction import values_of

MOST_CELLS = 400


@dataclass(frozen=True)
class Cell:
    """One place of the grid, and all that what it shows depends on."""

    row: int
    column: int
    x: Value
    y: Value
    request: Request


@dataclass(frozen=True)
class Row:
    """One row of the grid: its sheet and its value of the Y axis, in words."""

    sheet: str
    label: str


@dataclass(frozen=True)
class Plan:
    """All cells, row by row."""

    setting: Setting
    x: Kind
    y: Kind
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]

    def row(self, index: int) -> Sequence[Cell]:
        """The cells of one row."""
        width = len(self.columns)
        return self.cells[index * width : (index + 1) * width]

    @property
    def sheets(self) -> int:
        """How often the grid is repeated."""
        return len(dict.fromkeys(row.sheet for row in self.rows))


def make_plan(setting: Setting, policies: Policies, language: Automaton) -> Plan:
    """The plan of a setting, checked to the last cell. Raises BadRequest that says what is wrong."""
    x, y = kind_of(setting.x), kind_of(setting.y)
    if x is y and x.name != "none":
        raise BadRequest(f"Both axes vary the {x.title}. Let one of them vary something else.")
    offer = Offer(policies, language, _prompts(setting.prompts), _seeds(setting.seeds))
    xs, ys = _values(x, setting.x_values, "X", offer), _values(y, setting.y_values, "Y", offer)
    base = _base(setting, offer)
    sheets = _sheets(base, {x.name, y.name}, offer)
    _check_count(len(xs) * len(ys) * len(sheets))
    guided = "guidance" in (x.name, y.name)

    def ask(request: Request) -> Request:
        return _checked(_at_scale(request, offer, guided), language)

    rows = [(title, request, value) for title, request in sheets for value in ys]
    cells = [
        Cell(index, column, across, down, ask(x.put(y.put(request, down.given), across.given)))
        for index, (_, request, down) in enumerate(rows)
        for column, across in enumerate(xs)
    ]  # fmt: skip
    labels = tuple(Row(title, value.label) for title, _, value in rows)
    return Plan(setting, x, y, tuple(value.label for value in xs), labels, tuple(cells))


def _values(kind: Kind, text: str, axis: str, offer: Offer) -> tuple[Value, ...]:
    try:
        return kind.read(text, offer)
    except BadRequest as problem:
        raise BadRequest(f"{axis} axis, {kind.title}: {problem}") from problem


def _prompts(text: str) -> tuple[str, ...]:
    lines = [check_prompt(line) for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadRequest("There is no prompt. Write one, or several, one on a line.")
    return tuple(dict.fromkeys(lines))


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(check_seed(seed) for seed in whole_numbers(text))
    except BadRequest as problem:
        raise BadRequest(f"Seeds: {problem}") from problem


def _base(setting: Setting, offer: Offer) -> Request:
    """What every cell is asked where no axis says otherwise."""
    policy = offer.policy(setting.policy).name
    return Request(
        offer.prompts[0], setting.best_of, offer.seeds[0], setting.temperature, setting.top_p,
        policy=policy, scale=setting.scale, free=setting.free, fixed=_fixed(setting.fixed, offer),
    )  # fmt: skip


def _fixed(text: str, offer: Offer) -> tuple[str, ...]:
    """The words in "ckpt:mini_flat, steps:8"; a value that holds a comma itself is one, too."""
    known = values_of(offer.language.vocabulary)
    pieces = [piece.strip() for piece in text.replace("\n", ",").split(",") if piece.strip()]
    found: list[str] = []
    for piece in pieces:
        if piece.partition(":")[0] not in known and found:
            found[-1] = f"{found[-1]}, {piece}"
        else:
            found.append(piece)
    return tuple(found)


def _sheets(base: Request, laid_out: set[str], offer: Offer) -> list[tuple[str, Request]]:
    """The grid is repeated for each of these: (title, request)."""
    prompts = offer.prompts[:1] if "prompt" in laid_out else offer.prompts
    seeds = offer.seeds[:1] if "seed" in laid_out else offer.seeds
    found = []
    for prompt, seed in itertools.product(prompts, seeds):
        words = [] if "prompt" in laid_out else [prompt]
        words += [] if "seed" in laid_out else [f"seed {seed}"]
        found.append((" · ".join(words), replace(base, prompt=prompt, seed=seed)))
    return found


def _check_count(cells: int) -> None:
    if cells > MOST_CELLS:
        raise BadRequest(
            f"That makes {cells:,} cells; at most {MOST_CELLS} are possible. Ask for fewer values, prompts "
            "or seeds."
        )


def _at_scale(request: Request, offer: Offer, guided: bool) -> Request:
    """The request as its policy can take it: without guidance the scale counts only on an axis.

    Raises BadRequest where an axis varies it.
    """
    if offer.policy(request.policy).start is not None:
        return request
    if guided:
        raise BadRequest(
            f"'{request.policy}' was not improved by GRPO, so a guidance scale means nothing to it. "
            f"Choose a policy that was: {', '.join(offer.guided)}."
        )
    return replace(request, scale=None)


def _checked(request: Request, language: Automaton) -> Request:
    """The request, if it can be met here. Raises BadRequest."""
    request = request.checked(MAX_SAID)
    if request.fixed:
        try:
            restrict(language, request.fixed)
        except CannotFix as fault:
            raise BadRequest(str(fault)) from fault
    return request
