"""What may be asked of the studio, and what is wrong with what cannot be: a message for people."""

from __future__ import annotations

import math
import secrets
import unicodedata
from dataclasses import dataclass, replace

MAX_PROMPT = 1000  # characters, where a workflow is designed for it
MAX_DESIGNS = 8
MAX_SAID = 64  # designs of which one is rendered
MAX_FIXES = 8
MAX_TEMPERATURE = 2.0
LEAST_TOP_P = 0.01
LEAST_SCALE, MOST_SCALE = -1.0, 10.0  # of guidance
MAX_ROWS = 4  # designs of each policy, where three are shown side by side
MAX_SEED = 2**64 - 1  # as in ComfyUI
RANDOM_SEEDS = 2**32  # a drawn seed stays short enough to copy by hand


class BadRequest(ValueError):
    """The caller asked for something that cannot be done; the message says what and the limits."""


@dataclass(frozen=True)
class Request:
    """What to design. `checked` raises BadRequest for values out of range.

    `policy` is the usual one where it is empty. `scale` is that of guidance: 0 is the policy that it was
    trained from, 1 or None the policy itself. `beside` asks for both of these beside the guided
    designs, `free` lifts the grammar. `fixed` holds words that every sentence says, such as
    "ckpt:mini_flat" (`flowdesign.tokens.restriction`).
    """

    prompt: str
    count: int = 4
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0  # the likeliest words that hold so much of the probability
    ranked: bool = False  # the best first, as the reward ensemble sees it
    policy: str = ""
    scale: float | None = None
    beside: bool = False
    free: bool = False
    fixed: tuple[str, ...] = ()

    @property
    def scales(self) -> tuple[float | None, ...]:
        """The scales that each design is made at."""
        return (
            (0.0, 1.0, 1.0 if self.scale is None else self.scale) if self.beside else (self.scale,)
        )

    @property
    def total(self) -> int:
        """How many designs that makes."""
        return self.count * len(self.scales)

    def checked(self, most: int = MAX_DESIGNS) -> Request:
        """The same request with a trimmed prompt. Any value at all may come from a program.

        `most` is how many designs may be asked for.
        """
        prompt = check_prompt(self.prompt)
        if not (_is_number(self.count, int) and 1 <= self.count <= most):
            raise BadRequest(f"Ask for 1 to {most} designs, not {self.count}.")
        check_seed(self.seed)
        known = _is_number(self.temperature, int, float)
        if not (known and 0 <= self.temperature <= MAX_TEMPERATURE):  # also refuses nan
            raise BadRequest(
                f"The temperature is from 0 to {MAX_TEMPERATURE:g}, not {self.temperature}."
            )
        known = _is_number(self.top_p, int, float)
        if not (known and LEAST_TOP_P <= self.top_p <= 1):
            raise BadRequest(f"Top-p is from {LEAST_TOP_P:g} to 1, not {str(self.top_p)[:40]}.")
        if self.beside and self.count > MAX_ROWS:
            raise BadRequest(
                f"Side by side there are at most {MAX_ROWS} designs of each, not {self.count}."
            )
        if not isinstance(self.policy, str):
            raise BadRequest("The policy is a name.")
        self._check_fixed()
        return replace(self, prompt=prompt, scale=check_scale(self.scale))

    def _check_fixed(self) -> None:
        if not all(isinstance(text, str) for text in self.fixed):
            raise BadRequest("What is fixed is a list of words, such as sampler:euler.")
        if len(self.fixed) > MAX_FIXES:
            raise BadRequest(f"At most {MAX_FIXES} words can be fixed, not {len(self.fixed)}.")
        if self.fixed and self.free:
            raise BadRequest(
                f"{', '.join(self.fixed)} can be fixed only under the grammar: switch it on again."
            )


def check_prompt(prompt: str, most: int = MAX_PROMPT) -> str:
    """The prompt without control characters (files cannot hold them) and outer blanks.

    Raises BadRequest when it is empty or has more than `most` characters.
    """
    if not isinstance(prompt, str):
        raise BadRequest("The prompt is a text.")
    kept = (c for c in prompt if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    prompt = "".join(kept).strip()
    if not prompt:
        raise BadRequest("The prompt is empty. Describe the picture you want.")
    if len(prompt) > most:
        raise BadRequest(
            f"The prompt has {len(prompt):,} characters; at most {most:,} are allowed."
        )
    return prompt


def check_seed(seed: int) -> int:
    """The seed itself. Raises BadRequest when it is not one that ComfyUI takes."""
    if not (_is_number(seed, int) and 0 <= seed <= MAX_SEED):
        raise BadRequest(f"The seed is a whole number from 0 to {MAX_SEED}, not {str(seed)[:40]}.")
    return seed


def check_scale(scale: float | None) -> float | None:
    """The guidance scale itself, None for none. Raises BadRequest when it is out of range."""
    if scale is None:
        return None
    known = _is_number(scale, int, float) and math.isfinite(scale)
    if not (known and LEAST_SCALE <= scale <= MOST_SCALE):
        raise BadRequest(
            f"The guidance scale is from {LEAST_SCALE:g} to {MOST_SCALE:g}, not {str(scale)[:40]}."
        )
    return float(scale)


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def random_seed() -> int:
    """A seed that nobody chose."""
    return secrets.randbelow(RANDOM_SEEDS)
