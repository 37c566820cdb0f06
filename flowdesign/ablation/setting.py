"""A setting: what a person typed. It goes into a link and comes back from one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pydantic import Field

from flowdesign.config import ConfigError, Options, build
from flowdesign.request import BadRequest

TAB = "ablation"  # what a link says, so that the page opens this tab
MOST_TEXT = 8000  # characters of any text


class Setting(Options):
    """An X/Y grid as it was typed. Prompts stand one on a line; seeds and values may be ranges."""

    prompts: str = Field("", max_length=MOST_TEXT, description="prompts, one on a line")
    seeds: str = Field("1", max_length=MOST_TEXT, description="seeds, such as 1-4")
    x: str = Field("guidance", description="what the columns vary")
    x_values: str = Field("0-2 [5]", max_length=MOST_TEXT, description="values of the columns")
    y: str = Field("prompt", description="what the rows vary")
    y_values: str = Field("", max_length=MOST_TEXT, description="values of the rows")
    policy: str = Field("", description="policy; empty is the usual one")
    scale: float = Field(1.0, description="guidance scale where no axis varies it")
    temperature: float = Field(1.0, description="temperature where no axis varies it")
    top_p: float = Field(1.0, description="top-p where no axis varies it")
    best_of: int = Field(1, description="designs of which the ensemble picks one")
    fixed: str = Field("", max_length=MOST_TEXT, description="words fixed everywhere")
    free: bool = Field(False, description="without the grammar")


def read_setting(values: Mapping[str, Any]) -> Setting:
    """The setting in values of a form, or of a link's query. Raises BadRequest."""
    try:
        return build(Setting, dict(values))
    except ConfigError as fault:
        raise BadRequest(str(fault)) from fault


def to_link(setting: Setting) -> str:
    """The query of a link that restores the setting: only what differs from the usual one."""
    told = setting.model_dump(exclude_defaults=True)
    return "?" + urlencode({"tab": TAB} | told)


def from_link(query: Mapping[str, str]) -> Setting | None:
    """The setting that a link's query tells; None for a link to something else.

    What else a query has (Gradio's own `__theme`) is passed over. Raises BadRequest.
    """
    if query.get("tab") != TAB:
        return None
    return read_setting({name: query[name] for name in Setting.model_fields if name in query})
