"""The file tree of the README, from the first sentence of every module.

Rewrite it with: python tests/readme_tree.py
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=<!-- tree -->\n)(.*?)(?=<!-- end of tree -->)", re.DOTALL)
# The package's parts in the order in which data flows; each may import those above it.
ORDER = ["headers", "detection", "catalog", "config", "rates", "request", "nodes", "workflow", "tokens", "comfy", "scenes", "elsewhere", "standards", "drawing", "judge", "packing", "growing", "habits", "device", "decoding", "lm", "runs", "lease", "foreground", "rows", "samples", "sampling", "descent", "search", "designs", "provenance", "access", "records", "inventory", "votes", "heldout", "policy", "guidance", "checkpoints", "render", "scorers", "reward", "sft", "grpo", "zoo", "shipped", "persistence", "critic", "policies", "parts", "pace", "standalone", "studio", "collect", "convert", "parity", "scoring", "ablation", "evaluate", "reproduce", "bench", "commands", "__main__", "ui"]  # fmt: skip
FIRST = (
    ("app.py", "the page: python app.py"),
    ("requirements.txt", "what a Space installs"),
    ("pyproject.toml", "tool configuration"),
    ("Makefile", "run, test, check, install"),
    (".ci/", "what a bare machine needs to run the tests"),
    ("assets/", "the page's styles and scripts, the zoo's figures and contact sheets, the shipped records"),
    ("checkpoints/miniature/", "the zoo, in ComfyUI's folders"),
    ("checkpoints/policy_sft/", "the first policy: adapter, token rows, vocabulary and curves"),
    ("checkpoints/policy_warm/", "what a warm start made of it, with workflows that a search found"),
    ("checkpoints/policy_grpo/", "what GRPO made of that: the policy that the page uses"),
    ("checkpoints/reward/", "the reward ensemble: six members, vocabulary, figures, its worst misses and curves"),
    ("flowdesign/", "in the order in which data flows"),
)  # fmt: skip
LAST = (("tests/", "by module, and the page in a real Chromium"),)


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = text.split("\n\n")[0].replace("\n", " ").split(". ")[0]
    return sentence.rstrip(".:").replace("`", "")


def rows() -> list[tuple[str, str]]:
    """Every (name, line) of the tree."""
    package = ROOT / "flowdesign"
    found = {p.name.removesuffix(".py") for p in package.iterdir() if not p.name.startswith("__")}
    if missing := (found | {"__main__"}) ^ set(ORDER):
        raise ValueError(f"ORDER and the package differ: {sorted(missing)}")
    inside: list[tuple[str, str]] = []
    for name in ORDER:
        folder = package / name
        if not folder.is_dir():
            inside.append((f"  {name}.py", first_sentence(package / f"{name}.py")))
            continue
        inside.append((f"  {name}/", first_sentence(folder / "__init__.py")))
        modules = sorted(p for p in folder.rglob("*.py") if p.name != "__init__.py")
        inside += [(f"    {p.relative_to(folder).as_posix()}", first_sentence(p)) for p in modules]
    return [*FIRST, *inside, *LAST]


def tree() -> str:
    """The block as it stands in the README."""
    lines = rows()
    width = max(len(name) for name, _ in lines) + 2
    return "".join(f"    {name:<{width}}{line}".rstrip() + "\n" for name, line in lines)


if __name__ == "__main__":
    README.write_text(BLOCK.sub(lambda _: tree(), README.read_text(encoding="utf-8")), "utf-8")
