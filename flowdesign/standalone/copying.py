"""Definitions of this package as text, with all that they need, for a script that cannot import it.

copied({"flowdesign.render.resize": ["bislerp"]}) gives the imports and the source of `bislerp` and of
every function, class and constant of this package that it refers to. No module is imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from flowdesign.catalog import ROOT

PACKAGE = "flowdesign"
_FOR_LINTERS = re.compile(r"  # (type: ignore|noqa|fmt: skip).*$", re.MULTILINE)


@dataclass(frozen=True)
class Copied:
    """Import statements, and definitions, each after those of the modules it needs."""

    imports: frozenset[str]
    source: str


@dataclass(frozen=True)
class _Definition:
    """One statement at the top of a module: its text, and the names that it refers to."""

    name: str
    text: str
    uses: frozenset[str]
    is_value: bool


@dataclass(frozen=True)
class _Module:
    """A module's own definitions, and where each imported name comes from: (module, name there)."""

    definitions: Mapping[str, _Definition]
    imported: Mapping[str, tuple[str, str]]


@dataclass
class _Collected:
    imports: set[str] = field(default_factory=set)
    found: dict[tuple[str, str], _Definition] = field(default_factory=dict)


def copied(wanted: Mapping[str, Iterable[str]]) -> Copied:
    """Give the source of these names by module, and of all they need; KeyError for an unknown name."""
    collected = _Collected()
    for module, names in wanted.items():
        for name in names:
            _collect(module, name, collected)
    return Copied(frozenset(collected.imports), _joined(collected))


def merged(imports: Iterable[str]) -> list[str]:
    """Import statements as people write them: whole modules first, one line for each origin."""
    origins: dict[str, list[str]] = {}
    for line in sorted(set(imports), key=str.lower):
        origin, _, name = line.partition(" import ")
        origins.setdefault(origin, []).append(name)
    lines = [f"{o} import {', '.join(names)}" if names[0] else o for o, names in origins.items()]
    plain = [line for line in lines if line.startswith("import ")]
    return ["from __future__ import annotations", "", *plain, *sorted(set(lines) - set(plain))]


def _collect(module: str, name: str, collected: _Collected) -> None:
    """Add a definition after those that it refers to."""
    if (module, name) in collected.found:
        return
    parsed = _parsed(module)
    definition = parsed.definitions[name]
    collected.found[module, name] = definition  # before its needs: functions may call each other
    for used in sorted(definition.uses):
        if used in parsed.definitions:
            _collect(module, used, collected)
        elif used in parsed.imported:
            origin, original = parsed.imported[used]
            if origin.partition(".")[0] == PACKAGE:
                _collect(origin, original, collected)
            else:
                collected.imports.add(_import(origin, original, used))


def _joined(collected: _Collected) -> str:
    """Put constants first, then classes and functions, in the order of their modules."""
    order = {key: place for place, key in enumerate(_places(collected))}
    rows = sorted(collected.found, key=lambda key: order[key])
    values = [collected.found[key].text for key in rows if collected.found[key].is_value]
    others = [collected.found[key].text for key in rows if not collected.found[key].is_value]
    return "\n\n\n".join(["\n".join(values)] * bool(values) + others)


def _places(collected: _Collected) -> Iterator[tuple[str, str]]:
    """Yield every collected definition, a module's in its own order, needed modules first."""
    modules = list(dict.fromkeys(module for module, _ in collected.found))
    for module in reversed(modules):
        for name in _parsed(module).definitions:
            if (module, name) in collected.found:
                yield module, name


def _import(origin: str, original: str, used: str) -> str:
    renamed = "" if original == used or not original else f" as {used}"
    if original:
        return f"from {origin} import {original}{renamed}"
    return f"import {origin}" + (f" as {used}" if used != origin else "")


@lru_cache(maxsize=64)
def _parsed(module: str) -> _Module:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    definitions: dict[str, _Definition] = {}
    imported: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Import):
            imported |= {each.asname or each.name: (each.name, "") for each in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            origin = statement.module or ""
            imported |= {each.asname or each.name: (origin, each.name) for each in statement.names}
        else:
            definitions |= {each.name: each for each in _definitions(statement, text)}
    return _Module(definitions, imported)


def _definitions(statement: ast.stmt, text: str) -> Iterator[_Definition]:
    """Yield what a statement at the top of a module defines; docstrings define nothing."""
    names: list[str] = []
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        names = [statement.name]
    elif isinstance(statement, ast.Assign):
        names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        names = [statement.target.id]
    uses = frozenset(node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
    is_value = not isinstance(statement, ast.FunctionDef | ast.ClassDef)
    for name in names:
        yield _Definition(name, _text(statement, text), uses - {name}, is_value)


def _text(statement: ast.stmt, text: str) -> str:
    """The statement's lines with its decorators, without marks that are for linters."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(each.lineno for each in decorators)])
    lines = text.splitlines()[first - 1 : statement.end_lineno]
    return _FOR_LINTERS.sub("", "\n".join(lines))
