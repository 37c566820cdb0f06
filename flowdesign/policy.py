"""The policy: a causal language model that says workflows, p(workflow | prompt).

A 4-bit base (`flowdesign.lm`), LoRA on its attention and MLP projections, and the project's own
token rows (`flowdesign.rows`). A sentence follows the prompt in a short template, so the model
reads the prompt with everything it knows of words and speaks in workflow tokens only. In the paper
(arXiv 2505.21478) the vocabulary of the base is extended instead; own rows give the same
distribution over workflows for 0.2 % of the logits.

The prompt's keys and values are computed once for all sentences that follow it, in sampling and in
training alike.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from flowdesign import lm
from flowdesign.catalog import ROOT, Installed, installed
from flowdesign.decoding import Decoder, decoder_of
from flowdesign.growing import Growing, Places, in_order
from flowdesign.habits import Habits
from flowdesign.packing import Packed, pack
from flowdesign.rows import ProjectRows, rows_from_words
from flowdesign.runs import digest_of
from flowdesign.sampling import Language, Speaker, log_probs, padded
from flowdesign.tokens import (
    VOCABULARY,
    Automaton,
    Vocabulary,
)

SHIPPED = ROOT / "checkpoints" / "policy_sft"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TEMPLATE = ("Image: ", "\nWorkflow:")
PROMPT_TOKENS = 128  # a longer prompt is cut here
LAYER = re.compile(r"\.layers\.(\d+)\.")  # of the trunk, in the names of its weights
ADAPTER, ROWS = "adapter_model.safetensors", "rows.safetensors"


class Reading(Protocol):
    """A group of rows that are being read (`lm.Context`, `decoding.Memory`)."""

    @property
    def device(self) -> torch.device: ...
    def read(self, vectors: Tensor, places: Places) -> Tensor: ...
    def keep(self, indices: Sequence[int]) -> None: ...


class PolicyError(ValueError):
    """A saved policy that cannot be used; the message says which file and why."""


@dataclass(frozen=True)
class Anatomy:
    """What must be known to build a policy before its weights are read (policy.json)."""

    base: str = "smollm2-135m-instruct"
    rank: int = 16


@dataclass(frozen=True)
class Below:
    """Packed sentences, and their hidden states (rows, width, hidden) below the uppermost `layers`."""

    packed: Packed
    hidden: Tensor
    layers: int


class Policy(Speaker):
    """A language model that says workflows. Make one with `create` or `load`."""

    def __init__(
        self,
        trunk: Any,
        tokenizer: Any,
        rows: ProjectRows,
        anatomy: Anatomy,
        vocabulary: Vocabulary,
        models: Installed,
    ) -> None:
        self.trunk = trunk
        self.tokenizer = tokenizer
        self.rows = rows
        self.anatomy = anatomy
        self.vocabulary = vocabulary
        self.automaton = Automaton(vocabulary, models)
        self.device = rows.outputs.weight.device
        self.begin = rows.begin
        self.habits = Habits() if trunk.dtype == torch.float32 else None
        self.uppermost = 0  # layers whose LoRA learns; 0 is all
        self._merged: tuple[tuple[int, ...], Decoder | None] | None = None

    @classmethod
    def create(
        cls,
        anatomy: Anatomy = Anatomy(),
        dtype: lm.Dtype = "nf4",
        device: str = "cpu",
        vocabulary: Vocabulary = VOCABULARY,
        models: Installed | None = None,
        beside: "Policy | None" = None,
    ) -> "Policy":
        """A policy that has learned nothing yet. LoRA starts from torch's global seed.

        `models` is what its sentences may name, by default what is installed. Where it is of the same
        base as the policy `beside`, the two hold its weights once. Raises PolicyError, lm.WeightsNotFound,
        device.HardwareMissing.
        """
        if beside is not None and beside.anatomy.base == anatomy.base:
            trunk, tokenizer = beside.twin().trunk.unload(), beside.tokenizer
        else:
            trunk, tokenizer = lm.load_base(anatomy.base, dtype, device)
        words = trunk.get_input_embeddings().weight.detach()
        rows = rows_from_words(vocabulary, words, tokenizer).to(device)
        try:
            lora = get_peft_model(trunk, lora_of(anatomy.rank))
        except ValueError as error:  # peft finds nothing to put it on
            raise PolicyError(
                f"No policy can be made of '{anatomy.base}': it has no {', '.join(PROJECTIONS)}, which "
                "language models such as Llama, Qwen and SmolLM have. Name one of these (--base)."
            ) from error
        return cls(lora, tokenizer, rows, anatomy, vocabulary, models or installed())

    @classmethod
    def load(
        cls,
        folder: Path | str = SHIPPED,
        dtype: lm.Dtype = "nf4",
        device: str = "cpu",
        models: Installed | None = None,
        beside: "Policy | None" = None,
    ) -> "Policy":
        """Read a saved policy. Raises PolicyError, or tokens.VocabularyMismatch.

        `beside` is a policy that is there already, as in `create`.
        """
        folder = Path(folder)
        anatomy, vocabulary = _read_head(folder)
        policy = cls.create(anatomy, dtype, device, vocabulary, models, beside)
        for name, fill in (
            (ADAPTER, lambda weights: _fill_lora(policy.trunk, weights)),
            (ROWS, policy.rows.load_state_dict),
        ):
            try:
                fill(load_file(folder / name))
            except (SafetensorError, RuntimeError) as error:  # cut short; other shapes
                raise PolicyError(f"{folder / name} cannot be used: {_briefly(error)}") from error
        return policy

    def save(self, folder: Path) -> None:
        """Write the adapter (PEFT's files) and the rows in float16, and what they belong to."""
        folder.mkdir(parents=True, exist_ok=True)
        config = copy(self.trunk.peft_config["default"])
        config.base_model_name_or_path = self.anatomy.base  # not the folder it has on this machine
        config.save_pretrained(folder)
        save_file(lm.halves(get_peft_model_state_dict(self.trunk)), folder / ADAPTER)
        save_file(lm.halves(self.rows.state_dict()), folder / ROWS)
        (folder / "vocab.json").write_text(self.vocabulary.to_json(), encoding="utf-8")
        head = json.dumps(asdict(self.anatomy), indent=2) + "\n"
        (folder / "policy.json").write_text(head, encoding="utf-8")

    def twin(self) -> "Policy":
        """A policy that says the same and learns on its own. The base's weights are held once."""
        shared = {id(p): p for p in self.trunk.parameters() if not p.requires_grad}
        other = copy(self)
        other.trunk, other.rows = deepcopy(self.trunk, shared), deepcopy(self.rows)
        other._merged, other.habits = None, self.habits and Habits()
        return other

    def trainable(self) -> dict[str, Tensor]:
        """The weights that training changes, by name: "lora...." and "rows....", float32."""
        parts = {"lora": self.trunk, "rows": self.rows}
        named = ((f"{k}.{n}", p) for k, part in parts.items() for n, p in part.named_parameters())
        return {name: weight for name, weight in named if weight.requires_grad}

    def hold_below(self, layers: int) -> None:
        """Let training change the LoRA of the uppermost so many layers only, and the output rows.

        What the layers below give stays the same, so gradients end there. 0, or as many as there are, holds
        nothing.
        """
        least = self.trunk.config.num_hidden_layers - layers
        if not layers or least <= 0:
            return
        self.uppermost = layers
        for name, weight in self.trunk.named_parameters():
            if (found := LAYER.search(name)) and int(found[1]) < least:
                weight.requires_grad_(False)
        self.rows.inputs.requires_grad_(False)

    def logits(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Tensor:
        """Logits (sentences, longest, tokens) of each token given those before it.

        `prompts` has one prompt for each sentence; equal ones are read once, and equal beginnings of
        what follows them. Row i has as many meaningful places as sentence i has tokens.
        """
        packed, vectors = self._pack(prompts, sentences)
        return self._say(packed, lm.read(self.trunk, vectors, packed))

    @torch.no_grad()
    def below(
        self, prompts: Sequence[str], sentences: Sequence[Sequence[int]], layers: int
    ) -> Below:
        """Read as `logits` does, but only below the uppermost `layers` layers: what learning does not
        change (`hold_below`), in this policy and in those that it is a twin of."""
        packed, vectors = self._pack(prompts, sentences)
        lower, _ = lm.split(self.trunk, layers)
        return Below(packed, lm.read(lower, vectors, packed), layers)

    def logits_above(self, below: Below) -> Tensor:
        """The logits that `logits` gives, from what the layers below gave."""
        _, upper = lm.split(self.trunk, below.layers)
        return self._say(below.packed, lm.read(upper, below.hidden, below.packed))

    def _pack(
        self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]
    ) -> tuple[Packed, Tensor]:
        """Sentences packed, and the input vectors of that."""
        unique = list(dict.fromkeys(prompts))
        pieces = [self._pieces(prompt) for prompt in unique]
        rows = [unique.index(prompt) for prompt in prompts]
        packed = pack([len(piece) for piece in pieces], rows, sentences, self.rows.begin)
        return packed, self._vectors(pieces, packed.tokens)

    def _say(self, packed: Packed, hidden: Tensor) -> Tensor:
        """The logits of sentences, from the hidden states of what they were packed into."""
        nodes = self.rows.logits(hidden.flatten(0, 1)[packed.nodes.to(self.device)])
        return nodes[packed.places.to(self.device)]

    def _vectors(self, pieces: Sequence[list[int]], tokens: Sequence[list[int]]) -> Tensor:
        """Input vectors (rows, width, hidden) of prompts and what follows, 0 where a row has ended."""
        words = self.trunk.get_input_embeddings()
        parts = [
            torch.cat([words(self._ids(piece)).float(), self.rows.embed(self._ids(said))])
            for piece, said in zip(pieces, tokens, strict=True)
        ]
        return pad_sequence(parts, batch_first=True)

    def _ids(self, tokens: Sequence[int]) -> Tensor:
        return torch.tensor(tokens, device=self.device)

    def log_probs(
        self,
        prompts: Sequence[str],
        sentences: Sequence[Sequence[int]],
        language: Language | None = None,
    ) -> Tensor:
        """Log-probabilities (sentences,) in nats; under `language` forced tokens cost nothing."""
        logits = self.logits(prompts, sentences)
        if language is not None:
            logits = logits + grammar_mask(sentences, language, logits.shape[-1]).to(logits)
        return log_probs(logits, padded(sentences, logits.device)).sum(-1)

    def open(self, prompts: Sequence[str]) -> "PolicySession":
        """Get ready to say a sentence after each prompt; equal prompts are read once."""
        decoder = self._decoder()
        library = partial(lm.Context, self.trunk, self.device)
        with torch.no_grad():
            return PolicySession(
                self.rows, *self.read(prompts, decoder.open if decoder else library)
            )

    def read(
        self, prompts: Sequence[str], opens: Callable[[], Reading], copies: int = 1
    ) -> tuple[Reading, Growing]:
        """What sentences start from, one after each prompt: rows that have read the prompts, equal ones once.

        `opens` gives something that reads, with this policy's weights or some like them; the
        rows may be there in several copies.
        """
        unique = list(dict.fromkeys(prompts))
        ids, places = in_order(list(map(self._pieces, unique)), self.tokenizer.eos_token_id)
        context = opens()
        words = self.trunk.get_input_embeddings()(ids.to(self.device))
        context.read(words.repeat(copies, 1, 1), places.times(copies))
        return context, Growing([unique.index(prompt) for prompt in prompts], places.there)

    def _decoder(self) -> Decoder | None:
        """The weights as they are now, merged for saying workflows fast, where that can be done."""
        weights = [p for n, p in self.trunk.named_parameters() if "lora_" in n]
        versions = tuple(weight._version for weight in weights)  # counts the changes in place
        if self._merged is None or self._merged[0] != versions:
            self._merged = versions, decoder_of(self.trunk)
        return self._merged[1]

    def _pieces(self, prompt: str) -> list[int]:
        """Token ids of the prompt in its template; any string is accepted, a long one is cut."""
        text = prompt.encode("utf-8", errors="replace").decode("utf-8")
        before, words, after = (
            self.tokenizer(part, add_special_tokens=False)["input_ids"]
            for part in (TEMPLATE[0], text, TEMPLATE[1])
        )
        pieces: list[int] = [*before, *words[:PROMPT_TOKENS], *after]
        return pieces


class PolicySession:
    """Sentences that one policy is saying (a `flowdesign.sampling.Session`)."""

    def __init__(self, rows: ProjectRows, context: Reading, growing: Growing) -> None:
        self.rows, self.context, self.growing = rows, context, growing

    @torch.no_grad()
    def feed(
        self, tokens: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]] = ()
    ) -> Tensor:
        """Append tokens to each sentence, and guesses: logits (group, 1 + longest guess, tokens)."""
        lot = self.growing.grow(tokens, guesses)
        vectors = self.rows.embed(lot.ids.to(self.context.device))
        hidden = self.context.read(vectors, lot.places).flatten(0, 1)[lot.ends]
        return self.rows.logits(hidden)[lot.which]

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these sentences only."""
        go_on(self.context, self.growing, indices)


def go_on(context: Reading, growing: Growing, indices: Sequence[int], copies: int = 1) -> None:
    """Go on with these sentences, and with the rows that they are in."""
    before, rows = growing.rows, growing.keep(indices)
    if len(rows) < before:
        context.keep([copy * before + row for copy in range(copies) for row in rows])


def grammar_mask(sentences: Sequence[Sequence[int]], language: Language, tokens: int) -> Tensor:
    """What the grammar forbids (sentences, longest, tokens): 0 where allowed, else -inf.

    Places after a sentence's end are left free.
    """
    mask = torch.zeros(len(sentences), max(map(len, sentences)), tokens)
    for row, sentence in zip(mask, sentences, strict=True):
        state = language.start()
        for place, token in enumerate(sentence):
            row[place] = -torch.inf
            row[place, list(language.allowed(state))] = 0.0
            state = language.advance(state, token)
    return mask


def lora_of(rank: int) -> LoraConfig:
    """LoRA (arXiv 2106.09685) with scale 2 on every attention and MLP projection."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(PROJECTIONS))


def _briefly(error: Exception) -> str:
    """What is wrong, with the first of the weights that do not fit: torch lists those of all layers."""
    first, *others = (line.strip() for line in str(error).splitlines())
    more = f" And {len(others) - 1} more." if len(others) > 1 else ""
    return " ".join([first, *others[:1]]) + more


def _fill_lora(trunk: Any, weights: Mapping[str, Tensor]) -> None:
    """Give LoRA its saved weights. Raises RuntimeError where they are not all of this trunk's."""
    wanted, given = get_peft_model_state_dict(trunk).keys(), weights.keys()
    if odd := sorted(wanted ^ given):
        raise RuntimeError(
            f"{len(odd)} weights are missing or belong to another base, such as {odd[0]}"
        )
    set_peft_model_state_dict(trunk, weights)


def _read_head(folder: Path) -> tuple[Anatomy, Vocabulary]:
    """Read what a policy's weights belong to. Raises PolicyError, tokens.VocabularyMismatch."""
    missing = [n for n in ("policy.json", "vocab.json", ADAPTER, ROWS) if not (folder / n).exists()]
    if missing:
        raise PolicyError(
            f"No policy in {folder}: {', '.join(missing)} missing. "
            f"Train one with: python -m flowdesign sft --run {folder.name}"
        )
    vocabulary = Vocabulary.from_json((folder / "vocab.json").read_text("utf-8", errors="replace"))
    vocabulary.check_places(f"The policy in {folder}", "python -m flowdesign sft --run NAME")
    return _read_anatomy(folder / "policy.json"), vocabulary


def _read_anatomy(path: Path) -> Anatomy:
    """Read policy.json. Raises PolicyError when it is damaged."""
    try:
        anatomy = Anatomy(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise PolicyError(f"{path} is damaged: {error}") from error
    if not (isinstance(anatomy.base, str) and type(anatomy.rank) is int and anatomy.rank > 0):
        raise PolicyError(f"{path} is damaged: it needs a base (text) and a rank from 1, {anatomy}")
    return anatomy


def fingerprint(folder: Path) -> str:
    """The sha256 of a saved policy's weights; measured figures name the weights they belong to."""
    return digest_of(folder / name for name in (ADAPTER, ROWS))
