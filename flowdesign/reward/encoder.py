"""The text encoder below a reward model: any transformers encoder, tuned by LoRA, whole, or not at all.

The default is all-MiniLM-L6-v2 (6 layers, 384 wide, 22.7 million weights; arXiv 2002.10957). Weights
come from where `flowdesign.lm.resolve` finds them, safetensors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from flowdesign.device import check_device
from flowdesign.lm import WeightsNotFound, resolve

Tuning = Literal["lora", "full", "frozen"]
LONGEST = 96  # pieces of a prompt; a longer one is cut
_NO_TEXT = "\N{FULL STOP}"  # an encoder needs a piece to read, also of an empty prompt


@dataclass(frozen=True)
class Pieces:
    """Prompts as pieces: ids (prompts, longest), and 1 where a piece is, 0 where padding is."""

    ids: Tensor
    there: Tensor


class Encoder(nn.Module):
    """A transformers encoder with its tokenizer. Copies share the weights that nothing changes."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.width: int = model.config.hidden_size
        self.inputs: int = model.get_input_embeddings().embedding_dim  # ELECTRA's are narrower

    @classmethod
    def load(cls, name: str, device: str = "cpu") -> Encoder:
        """Load an encoder without dropout. Raises lm.WeightsNotFound, device.HardwareMissing."""
        check_device(device)
        place = resolve(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(place)
            model = AutoModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError) as fault:
            raise WeightsNotFound(
                f"No encoder '{name}': neither a folder, nor an installed package, nor the hub gives "
                f"'{place}' ({fault}). Copy the model's folder to checkpoints/{name}."
            ) from fault
        model.pooler = None  # nothing reads it, so nothing would train it
        # In eval mode there is no dropout, and so no hidden chance; gradients flow all the same.
        return cls(model.eval().requires_grad_(False).to(device), tokenizer)

    def copy(self, tuning: Tuning, rank: int) -> Encoder:
        """An encoder that learns on its own: LoRA (arXiv 2106.09685) on every linear layer, or all.

        LoRA starts from torch's global seed. Untuned weights are the same tensors in every copy.
        """
        shared = {} if tuning == "full" else {id(p): p for p in self.model.parameters()}
        model = deepcopy(self.model, shared)
        if tuning == "full":
            model.requires_grad_(True)
        if tuning == "lora":
            adapter = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
            model = inject_adapter_in_model(adapter, model)
        return Encoder(model, self.tokenizer)

    def pieces(self, prompts: Sequence[str]) -> Pieces:
        """Cut prompts into pieces; any string is accepted."""
        texts = [prompt.encode("utf-8", "replace").decode() or _NO_TEXT for prompt in prompts]
        found = self.tokenizer(
            texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        device = self.model.device
        return Pieces(found["input_ids"].to(device), found["attention_mask"].to(device))

    def words(self, ids: Tensor) -> Tensor:
        """Input vectors (..., inputs) of piece ids (...)."""
        vectors: Tensor = self.model.get_input_embeddings()(ids)
        return vectors

    def read(self, pieces: Pieces) -> Tensor:
        """Hidden states (prompts, longest, width)."""
        return self.read_vectors(self.words(pieces.ids), pieces.there)

    def read_vectors(self, vectors: Tensor, there: Tensor) -> Tensor:
        """Hidden states (texts, longest, width) of input vectors (texts, longest, inputs)."""
        hidden: Tensor = self.model(inputs_embeds=vectors, attention_mask=there).last_hidden_state
        return hidden

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Prompts as unit vectors (prompts, width): mean hidden states, as MiniLM was trained for."""
        if not prompts:  # a tokenizer cannot make a batch of nothing
            return np.zeros((0, self.width))
        pieces = self.pieces(prompts)
        mean = mean_of(self.read(pieces), pieces.there)
        found: NDArray[np.float64] = (
            torch.nn.functional.normalize(mean, dim=-1).double().cpu().numpy()
        )
        return found


def mean_of(vectors: Tensor, there: Tensor) -> Tensor:
    """The mean (n, width) of the vectors (n, places, width) that are there."""
    weights = there.to(vectors)[..., None]
    return (vectors * weights).sum(1) / weights.sum(1)
