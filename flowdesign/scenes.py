"""The miniature world: what a prompt can ask for, and scenes that show it.

A *domain* is a style with its own family of objects; one base checkpoint of the zoo is the specialist
of each. Prompts follow the six categories of GenEval (Ghosh et al., arXiv 2310.11513). Everything here
is exact: a prompt is generated from a `Spec`, and `parse` gives the `Spec` back, so that the judge can
check an image against the words alone.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass, replace

CATEGORIES = (
    "single_object", "two_object", "counting", "colors", "position", "color_attribution",
)  # fmt: skip
SHAPES = (
    "circle", "square", "triangle", "star", "heart", "drop",
    "cross", "bolt", "diamond", "house", "tree", "fish",
)  # fmt: skip
COLOURS = ("red", "yellow", "green", "blue", "purple", "pink")
STYLES = ("flat", "outline", "night", "striped")
BACKDROPS = ("dusk", "mint", "sand")
RELATIONS = ("left of", "right of", "above", "below")
COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
PLURALS = {"cross": "crosses", "fish": "fish"} | {
    s: s + "s" for s in SHAPES if s not in ("cross", "fish")
}
MEDIA = (
    "", "a photo of", "a picture of", "an image of", "a drawing of", "a painting of",
    "an illustration of", "a rendering of", "a sketch of", "an icon of",
)  # fmt: skip
STYLE_PHRASES = (", {} style", " in {} style", ", {}", ", drawn in {} style", ", {} look")
RELATION_PHRASES = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below",),
}
BACKDROP_PHRASES = {"dusk": " at dusk", "mint": " on mint", "sand": " on sand"}
TEST_SHARE = 0.3


@dataclass(frozen=True)
class Item:
    """One kind of object that a prompt names: `count` objects of a shape, perhaps of a colour."""

    shape: str
    colour: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Spec:
    """What a prompt asks for; None means that the prompt leaves it open."""

    items: tuple[Item, ...]
    relation: str | None = None
    style: str | None = None
    backdrop: str | None = None

    @property
    def category(self) -> str:
        """The GenEval category that these items belong to."""
        if len(self.items) == 1:
            (item,) = self.items
            if item.count > 1:
                return "counting"
            return "colors" if item.colour else "single_object"
        if self.relation:
            return "position"
        return "color_attribution" if all(i.colour for i in self.items) else "two_object"


@dataclass(frozen=True)
class Domain:
    """A style with its family of objects, its specialist checkpoint and the LoRA of its variant.

    The variant is something that the specialist never saw and that the LoRA teaches it: another
    backdrop, or (`backdrop` None) a crowd of five or six.
    """

    style: str
    shapes: tuple[str, ...]
    checkpoint: str
    lora: str
    backdrop: str | None


DOMAINS = (
    Domain("flat", SHAPES[0:3], "mini_flat", "flat_dusk", "dusk"),
    Domain("outline", SHAPES[3:6], "mini_outline", "outline_mint", "mint"),
    Domain("night", SHAPES[6:9], "mini_night", "night_crowd", None),
    Domain("striped", SHAPES[9:12], "mini_striped", "striped_sand", "sand"),
)


def domain_of(spec: Spec) -> Domain | None:
    """The domain whose style or, where no style is named, whose objects the spec asks for."""
    for domain in DOMAINS:
        if domain.style == spec.style:
            return domain
    for domain in DOMAINS:
        if all(item.shape in domain.shapes for item in spec.items):
            return domain
    return None


def is_variant(spec: Spec) -> bool:
    """Whether the spec asks for what only the LoRA of its domain can draw."""
    return spec.backdrop is not None or spec.items[0].count > 4


# --- prompts -------------------------------------------------------------------------------------


def random_spec(rng: random.Random, domain: Domain, category: str, variant: bool = False) -> Spec:
    """Draw a spec of one GenEval category inside a domain; style is always named.

    A crowd variant exists only as counting; the other categories then ask for the plain domain.
    """
    shapes = domain.shapes
    backdrop = domain.backdrop if variant else None
    spec = Spec((), style=domain.style, backdrop=backdrop)
    if category in ("single_object", "colors"):
        colour = rng.choice(COLOURS) if category == "colors" else None
        return replace(spec, items=(Item(rng.choice(shapes), colour),))
    if category == "counting":
        crowd = variant and domain.backdrop is None
        count = rng.choice((5, 6) if crowd else (2, 3, 4))
        colour = rng.choice(COLOURS) if rng.random() < 0.4 else None
        return replace(spec, items=(Item(rng.choice(shapes), colour, count),))
    first, second = rng.sample(shapes, 2)
    if category == "color_attribution":
        c1, c2 = rng.sample(COLOURS, 2)
        return replace(spec, items=(Item(first, c1), Item(second, c2)))
    relation = rng.choice(RELATIONS) if category == "position" else None
    return replace(spec, items=(Item(first), Item(second)), relation=relation)


def _noun(item: Item) -> str:
    colour = f"{item.colour} " if item.colour else ""
    if item.count == 1:
        return f"a {colour}{item.shape}"
    word = next(w for w, n in COUNTS.items() if n == item.count)
    return f"{word} {colour}{PLURALS[item.shape]}"


def caption(spec: Spec, rng: random.Random) -> str:
    """Say a spec in words; `parse(caption(spec, rng)) == spec` for every spec of the grammar."""
    nouns = [_noun(item) for item in spec.items]
    joint = "and"
    if spec.relation:
        joint = rng.choice(RELATION_PHRASES[spec.relation])
    text = f" {joint} ".join(nouns)
    medium = rng.choice(MEDIA)
    text = f"{medium} {text}" if medium else text
    text += BACKDROP_PHRASES[spec.backdrop] if spec.backdrop else ""
    return text + (rng.choice(STYLE_PHRASES).format(spec.style) if spec.style else "")


SPLITS = ("train", "test")


def split_of(prompt: str) -> str:
    """'test' for the share of all prompts that is never trained on, else 'train'; by hash."""
    digest = hashlib.sha256(" ".join(prompt.lower().split()).encode()).digest()
    return "test" if digest[0] < 256 * TEST_SHARE else "train"


def random_prompt(
    rng: random.Random,
    domain: Domain | None = None,
    split: str = "train",
    category: str | None = None,
    variant: bool | None = None,
) -> str:
    """Draw a prompt of the grammar from one split; what is None is drawn too (1 in 3 a variant).

    Raises ValueError for another split than train or test.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split '{split}' of the scenes. Known: {', '.join(SPLITS)}.")
    while True:
        where = domain or rng.choice(DOMAINS)
        kind = category or rng.choice(CATEGORIES)
        odd = rng.random() < 1 / 3 if variant is None else variant
        if odd and where.backdrop is None and category is None:
            kind = "counting"
        prompt = caption(random_spec(rng, where, kind, odd), rng)
        if split_of(prompt) == split:
            return prompt


def prompt_set(domain: Domain, per_category: int, seed: int, variant: bool = False) -> list[str]:
    """Six times `per_category` distinct held-out prompts, in a fixed order.

    The categories share alike; what a small one cannot give (there are only so many ways to ask for a
    star), colour attribution adds. A crowd is counting only, and gives `per_category`.
    """
    rng = random.Random(f"{seed}/{domain.style}/{variant}")
    crowd = variant and domain.backdrop is None
    chosen: dict[str, None] = {}
    for category in ("counting",) if crowd else CATEGORIES:
        found: dict[str, None] = {}
        for _ in range(per_category * 200):
            found[random_prompt(rng, domain, "test", category, variant)] = None
            if len(found) == per_category:
                break
        chosen |= found
    while not crowd and len(chosen) < per_category * len(CATEGORIES):
        chosen[random_prompt(rng, domain, "test", "color_attribution", variant)] = None
    return list(chosen)


def example_prompts() -> list[str]:
    """Prompts for the page: one of each domain and some that ask for a variant."""
    return [
        "a red circle left of a blue square, flat style",
        "three purple stars, outline style",
        "a yellow bolt and a pink diamond in night style",
        "a green tree and a red house, striped style",
        "a pink heart on mint, outline style",
        "a yellow triangle at dusk, flat style",
        "six blue diamonds, night style",
        "two red fish on sand, striped style",
    ]


# --- reading a prompt ----------------------------------------------------------------------------

_SINGULAR = {p: s for s, p in PLURALS.items()} | {s: s for s in SHAPES}
_STYLE_WORDS = {s: s for s in STYLES} | {"outlined": "outline", "stripes": "striped"}
_DIGITS = {str(n): n for n in range(1, 7)} | COUNTS | {"a": 1, "an": 1, "one": 1, "single": 1}


def parse(prompt: str) -> Spec | None:
    """Read what a prompt asks for; None when it names no object of this world.

    Tolerant of words it does not know, so that people may write freely around the objects.
    """
    words = re.findall(r"[a-z]+|\d+", prompt.lower())
    items: list[Item] = []
    relation, style, backdrop = None, None, None
    count, colour = 1, None
    for here, word in enumerate(words):
        if word in _SINGULAR:
            items.append(Item(_SINGULAR[word], colour, count))
            count, colour = 1, None
        elif word in _DIGITS:
            count = _DIGITS[word]
        elif word in COLOURS:
            colour = word
        elif word in _STYLE_WORDS:
            style = _STYLE_WORDS[word]
        elif word in BACKDROPS:
            backdrop = word
        elif len(items) == 1 and relation is None:
            relation = _relation(words[here : here + 2])
    if not items:
        return None
    return Spec(tuple(items[:2]), relation if len(items) > 1 else None, style, backdrop)


def _relation(words: list[str]) -> str | None:
    if words[0] in ("above", "below"):
        return words[0]
    return " ".join(words) if words in (["left", "of"], ["right", "of"]) else None
