"""k-diffusion's samplers (MIT): its module of samplers alone, for what else the package imports is large."""

from __future__ import annotations

import importlib.util
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any


@cache
def k_diffusion() -> Any:
    """The module k_diffusion.sampling."""
    found = importlib.util.find_spec("k_diffusion")
    assert found is not None and found.submodule_search_locations, "make install installs it"
    folder = Path(found.submodule_search_locations[0])
    package, utils = types.ModuleType("kd"), types.ModuleType("kd.utils")
    package.__path__ = [str(folder)]
    utils.append_dims = lambda x, count: x[(...,) + (None,) * (count - x.ndim)]  # type: ignore[attr-defined]
    solver = types.ModuleType("torchdiffeq")
    solver.odeint = None  # type: ignore[attr-defined]
    sys.modules |= {"kd": package, "kd.utils": utils}
    sys.modules.setdefault("torchdiffeq", solver)
    spec = importlib.util.spec_from_file_location("kd.sampling", folder / "sampling.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
