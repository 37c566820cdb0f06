"""The reward ensemble: predicts the score of (prompt, workflow) with its uncertainty, and no image.

    ensemble = Ensemble.load()
    found = ensemble.predict(["a red star"] * 2, [sentence, other])
    found.mean, found.low, found.high, found.lower(k=1.0)

On disk a folder: reward.json, vocab.json and member_0.safetensors, ... (float16), in checkpoints/.

Errors: RewardError          a folder that is no ensemble, or damaged
        RewardMismatch       what cannot be predicted: words that it does not know
        VocabularyMismatch   its vocabulary is not this version's (flowdesign.tokens)
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowdesign.config import RewardConfig
from flowdesign.lm import halves
from flowdesign.reward import HEAD, SHIPPED
from flowdesign.reward.calibration import USUAL, Calibration
from flowdesign.reward.encoder import Encoder, Tuning
from flowdesign.reward.network import RewardModel
from flowdesign.reward.readers import READERS, Prompts, Shape
from flowdesign.runs import digest_of, replace_text
from flowdesign.sampling import padded
from flowdesign.standards import Standard
from flowdesign.tokens import VOCABULARY, Vocabulary

WORDS = "vocab.json"
HOW = "python -m flowdesign reward"
AT_ONCE = 128  # pairs read at once: what fits into the processor's cache
REMEMBERED = 512  # prompts
Values = NDArray[np.float64]


class RewardError(ValueError):
    """A folder that holds no usable ensemble; the message says what is missing."""


class RewardMismatch(RewardError):
    """Prompts and sentences that this ensemble cannot judge."""


@dataclass(frozen=True)
class Anatomy:
    """All that reward.json says: how the members are built, and what their numbers mean."""

    encoder: str
    tuning: Tuning
    rank: int
    members: int
    shape: Shape
    heads: tuple[str, ...]  # "combined" first
    weights: Mapping[str, float]  # of the raw scores in the combined one
    standards: Mapping[str, Mapping[str, float]]  # scorer -> mean and sd of the reference set
    trust: float  # k of the lower bound
    data: str  # digest of the records it learned from
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls,
        config: RewardConfig,
        heads: tuple[str, ...],
        standards: Mapping[str, Standard],
        data: str,
    ) -> Anatomy:
        """How the members of a config are built."""
        tokens = len(VOCABULARY.tokens)
        shape = Shape(
            config.reader,
            tokens,
            len(heads),
            config.width,
            config.layers,
            config.prior,
            config.dropout,
        )
        known = {name: asdict(each) for name, each in standards.items()}
        return cls(
            config.encoder, config.tuning, config.rank, config.members, shape, heads,
            dict(config.weights), known, config.trust, data,
        )  # fmt: skip

    def member(self, base: Encoder) -> RewardModel:
        """A member that has learned nothing; it starts from torch's global seed."""
        model = RewardModel(base.copy(self.tuning, self.rank), self.shape)
        model.to(base.model.device)
        return model


@dataclass(frozen=True)
class Prediction:
    """What an ensemble predicts for pairs (n,), in standard deviations of the reference set.

    `spread` is the standard deviation between the members' means: what is not known. `noise` is that
    of one image around its mean: what cannot be known. `low` to `high` is the calibrated 90 % interval
    of one image's combined score. `heads`: the mean of every raw scorer.
    """

    mean: Values
    spread: Values
    noise: Values
    low: Values
    high: Values
    trust: float = 1.0
    heads: Mapping[str, Values] = field(default_factory=dict)

    def lower(self, k: float | None = None) -> Values:
        """The lower bound mean - k x spread; k is the ensemble's own unless given."""
        return self.mean - (self.trust if k is None else k) * self.spread

    @property
    def sd(self) -> Values:
        """The standard deviation of one image's score around the mean."""
        found: Values = np.sqrt(self.noise**2 + self.spread**2)
        return found


class Ensemble:
    """Reward models that were trained apart. May be called from any thread."""

    def __init__(
        self,
        members: Sequence[RewardModel],
        anatomy: Anatomy,
        vocabulary: Vocabulary = VOCABULARY,
        threads: int = 1,
    ) -> None:
        self.members = list(members)
        self.anatomy = anatomy
        self.vocabulary = vocabulary
        self.threads = threads
        self.device = self.members[0].head.weight.device
        self._read: list[OrderedDict[str, Prompts]] = [OrderedDict() for _ in self.members]
        self._lock = Lock()

    @classmethod
    def load(cls, folder: Path | str = SHIPPED, device: str = "cpu", threads: int = 1) -> Ensemble:
        """Read a saved ensemble; `threads` members predict at once.

        Raises RewardError, tokens.VocabularyMismatch, lm.WeightsNotFound.
        """
        folder = Path(folder)
        anatomy, vocabulary = read_anatomy(folder)
        base = Encoder.load(anatomy.encoder, device)
        members = []
        for number in range(anatomy.members):
            model = anatomy.member(base)
            _fill(model, folder / member_file(number))
            members.append(model.requires_grad_(False).eval())
        return cls(members, anatomy, vocabulary, threads)

    def of(self, members: Sequence[int]) -> Ensemble:
        """The ensemble of these members alone, by number."""
        chosen = [self.members[number] for number in members]
        return Ensemble(chosen, self.anatomy, self.vocabulary, self.threads)

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the raw scores in the combined one that it predicts."""
        return self.anatomy.weights

    def save(self, folder: Path) -> None:
        """Write the ensemble; what is left of a larger one is removed.

        reward.json goes first and comes last, so whoever reads meanwhile, or after a crash, finds no
        ensemble there and never a mixture of two.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in (folder / HEAD, *folder.glob(member_file("*"))):
            old.unlink(missing_ok=True)
        for number, model in enumerate(self.members):
            save_file(halves(model.kept()), folder / member_file(number))
        (folder / WORDS).write_text(self.vocabulary.to_json(), encoding="utf-8")
        self.save_anatomy(folder)

    def save_anatomy(self, folder: Path) -> None:
        """Write reward.json alone, as after calibration."""
        text = json.dumps(asdict(self.anatomy), indent=2) + "\n"
        replace_text(folder / HEAD, text)

    def predict(
        self,
        prompts: Sequence[str],
        sentences: Sequence[Sequence[int]],
    ) -> Prediction:
        """Predict for aligned prompts and sentences. A prompt that was read lately is not read again.

        Raises RewardMismatch for an empty sentence or words that the ensemble does not know.
        """
        self._check(prompts, sentences)
        means, noises = self.members_of(prompts, sentences)
        mean, spread = means.mean(0), _spread(means)
        noise = np.sqrt((noises**2).mean(0))
        sd = np.sqrt(noise[:, 0] ** 2 + spread[:, 0] ** 2)
        low, high = self._interval(mean[:, 0], sd)
        heads = {name: mean[:, at] for at, name in enumerate(self.anatomy.heads) if at}
        return Prediction(
            mean[:, 0], spread[:, 0], noise[:, 0], low, high, self.anatomy.trust, heads
        )

    def forget(self) -> None:
        """Forget the prompts that were read.

        A prompt that is read beside others differs in the last bits, so what is predicted depends a
        little on what was asked before; after this it does not.
        """
        with self._lock:
            for memory in self._read:
                memory.clear()

    def members_of(
        self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]
    ) -> tuple[Values, Values]:
        """Mean and noise (members, pairs, heads) by every member on its own."""
        if not sentences:
            empty = np.zeros((len(self.members), 0, len(self.anatomy.heads)))
            return empty, empty
        order = np.argsort([len(sentence) for sentence in sentences], kind="stable")
        parts = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]

        def work(number: int) -> Tensor:
            found = [
                self._part(number, [prompts[i] for i in part], [sentences[i] for i in part])
                for part in parts
            ]
            return torch.cat(found)

        with ThreadPoolExecutor(self.threads) as pool:
            both = torch.stack(list(pool.map(work, range(len(self.members)))))
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        values = both[:, back].double().numpy()
        return values[..., 0], values[..., 1]

    @torch.no_grad()
    def _part(
        self, number: int, prompts: Sequence[str], sentences: Sequence[Sequence[int]]
    ) -> Tensor:
        """One member's mean and noise (pairs, heads, 2) of pairs that fit into memory."""
        names = list(dict.fromkeys(prompts))
        place = {name: at for at, name in enumerate(names)}
        which = torch.tensor([place[prompt] for prompt in prompts], device=self.device)
        read = self._read_prompts(number, names)
        output = self.members[number](read, which, padded(sentences, self.device))
        return torch.stack([output.mean, output.noise], -1).cpu()

    def _read_prompts(self, number: int, names: Sequence[str]) -> Prompts:
        """Read prompts, or remember them: the latest stay."""
        memory = self._read[number]
        with self._lock:
            known = {name: memory[name] for name in names if name in memory}
        missing = [name for name in names if name not in known]
        if missing:
            read = self.members[number].read_prompts(missing)
            for at, name in enumerate(missing):
                length = int(read.there[at].sum())
                known[name] = Prompts(
                    read.states[at, :length].clone(), read.there[at, :length], read.mark[at]
                )
        with self._lock:
            for name in names:
                memory[name] = known[name]
                memory.move_to_end(name)
            while len(memory) > REMEMBERED:
                memory.popitem(last=False)
        return _together([known[name] for name in names])

    def _interval(self, mean: Values, sd: Values) -> tuple[Values, Values]:
        calibration = self.anatomy.calibration
        if calibration is None:  # a normal distribution's
            return mean - 1.645 * sd, mean + 1.645 * sd
        return calibration.interval(mean, sd, USUAL)

    def _check(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> None:
        if len(prompts) != len(sentences):
            raise RewardMismatch(
                f"{len(prompts)} prompts and {len(sentences)} sentences: one prompt for each is needed."
            )
        tokens = len(self.vocabulary.tokens)
        for sentence in sentences:
            if not sentence:
                raise RewardMismatch("An empty sentence says no workflow, so it has no reward.")
            unknown = next((token for token in sentence if not 0 <= token < tokens), None)
            if unknown is not None:
                word = dict(enumerate(VOCABULARY.tokens)).get(unknown, f"number {unknown}")
                raise RewardMismatch(
                    f"This ensemble was trained before the word {word} was in the vocabulary. "
                    f"Train one that knows it: {HOW}"
                )


def read_anatomy(folder: Path) -> tuple[Anatomy, Vocabulary]:
    """Read what an ensemble's weights belong to. Raises RewardError, tokens.VocabularyMismatch."""
    missing = [name for name in (HEAD, WORDS) if not (folder / name).exists()]
    if missing:
        raise RewardError(
            f"No reward ensemble in {folder}: {', '.join(missing)} missing. Train one: {HOW}"
        )
    vocabulary = Vocabulary.from_json((folder / WORDS).read_text("utf-8", errors="replace"))
    vocabulary.check_places(f"The reward ensemble in {folder}", HOW)
    try:
        return _anatomy(json.loads((folder / HEAD).read_text(encoding="utf-8"))), vocabulary
    except (ValueError, TypeError, KeyError) as fault:
        raise RewardError(f"{folder / HEAD} is damaged: {fault!r}") from fault


def fingerprint(folder: Path) -> str:
    """The sha256 of an ensemble's weights and calibration; figures name those they belong to."""
    return digest_of([folder / HEAD, *sorted(folder.glob(member_file("*")))])


def member_file(number: int | str) -> str:
    """The file of a member's weights."""
    return f"member_{number}.safetensors"


def _anatomy(values: Any) -> Anatomy:
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    calibration = values.pop("calibration", None)
    shape, heads = Shape(**values.pop("shape")), tuple(values.pop("heads"))
    if shape.reader not in READERS:
        raise ValueError(f"unknown reader '{shape.reader}'")
    if calibration is not None:
        columns = {name: tuple(calibration[name]) for name in ("levels", "low", "high")}
        calibration = Calibration(images=calibration["images"], **columns)
    return Anatomy(shape=shape, heads=heads, calibration=calibration, **values)


def _fill(model: RewardModel, path: Path) -> None:
    """Load a member's weights, all of them and no others. Raises RewardError."""
    try:
        stored = load_file(path)
        wanted = model.kept()
        if stored.keys() != wanted.keys():
            raise RewardError(f"{path} is of another architecture than {HEAD} says.")
        with torch.no_grad():
            for name, weight in wanted.items():
                weight.copy_(stored[name])
    except (OSError, SafetensorError, RuntimeError) as fault:
        raise RewardError(f"{path} cannot be used: {fault}") from fault


def _spread(means: Values) -> Values:
    """The standard deviation between members (members, ...), 0 for one."""
    if len(means) == 1:
        return np.zeros(means.shape[1:])
    spread: Values = means.std(0, ddof=1)
    return spread


def _together(prompts: Sequence[Prompts]) -> Prompts:
    """Prompts of different lengths in one, padded."""
    pad = torch.nn.utils.rnn.pad_sequence
    return Prompts(
        pad([each.states for each in prompts], batch_first=True),
        pad([each.there for each in prompts], batch_first=True),
        torch.stack([each.mark for each in prompts]),
    )
