"""Scorers that were learned from people's choices. Torch is loaded when one is opened.

None needs its authors' package: the networks are ours or transformers', the weights theirs, in
safetensors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from flowdesign.scorers import sources
from flowdesign.scorers.scorer import Scorer, ScorerMissing
from flowdesign.scorers.sources import Published

if TYPE_CHECKING:
    from PIL.Image import Image

    from flowdesign.scorers.networks.clip import Clip

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt")
CLIP_WORDS = "openai/clip-vit-large-patch14"  # all CLIPs here share its tokenizer's words
CLIP_L = Published("model.safetensors", "openai/clip-vit-large-patch14")


class LearnedScorer(Scorer):
    """A scorer with weights: `file`, where `flowdesign.scorers.sources` finds it."""

    kind = "learned"
    file: ClassVar[str] = "model.safetensors"
    published: ClassVar[Published]
    words: ClassVar[str] = CLIP_WORDS  # hub repository of the tokenizer, where the folder has none

    @classmethod
    def open(cls, source: str = "", device: str = "cpu") -> Self:
        """Load the weights onto a torch device. Raises ScorerMissing or ScorerError."""
        if lacking := super().lacks():
            raise ScorerMissing(lacking)
        place = sources.find(cls.name, cls.file, cls.published, source)
        scorer = cls()
        scorer.load(place, device)
        return scorer

    @classmethod
    def lacks(cls, source: str = "") -> str:
        """Say what is missing here, without loading anything."""
        if lacking := super().lacks():
            return lacking
        try:
            place = sources.find(cls.name, cls.file, cls.published, source)
        except ScorerMissing as fault:
            return str(fault)
        if sources.local(cls.name, cls.file, source) or sources.is_cached(place, cls.file):
            return ""
        return (
            f"The weights of '{cls.name}' are not here yet. They come from the hub ({place}) when it "
            f"is first used, or copy them to {sources.FOLDER / cls.name}."
        )

    @classmethod
    def is_on_hub(cls, source: str = "") -> bool:
        """Whether the weights come from the hub when the scorer is opened."""
        if super().lacks():
            return False
        try:
            place = sources.find(cls.name, cls.file, cls.published, source)
        except ScorerMissing:
            return False
        return sources.is_repository(place) and not sources.is_cached(place, cls.file)

    @abstractmethod
    def load(self, place: str, device: str) -> None:
        """Load the network from a folder or repository onto a torch device."""

    @classmethod
    def tokenizer_place(cls, place: str) -> str:
        """Give the place of the tokenizer: beside the weights, else the repository `words`.

        Another repository than the published one has its own.
        """
        beside = any((Path(place) / file).is_file() for file in TOKENIZER_FILES)
        other = sources.is_repository(place) and place != cls.published.repository
        return place if beside or other else cls.words


class ClipScorer(LearnedScorer):
    """A scorer whose network is a CLIP."""

    clip: Clip

    def load(self, place: str, device: str) -> None:
        """Load a CLIPModel and its tokenizer."""
        from flowdesign.scorers.networks.clip import load_clip

        self.clip = load_clip(place, self.tokenizer_place(place), device)


class ClipSimilarity(ClipScorer):
    """The cosine between picture and prompt under any CLIP (CLIPScore, arXiv 2104.08718, unscaled)."""

    name = "clip_similarity"
    about = "How near picture and prompt are under CLIP ViT-L/14, as a cosine."
    licence = "MIT"
    low = -1.0
    high = 1.0
    published = CLIP_L

    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Give the cosine of each pair."""
        return _floats(self.clip.similarities(prompts, images))


class PickScore(ClipScorer):
    """Learned from the choices of Pick-a-Pic's users (arXiv 2305.01569); about 17 to 24."""

    name = "pickscore"
    about = "What users of Pick-a-Pic would choose; about 17 to 24."
    licence = "MIT"
    published = Published("model.safetensors", "yuvalkirstain/PickScore_v1")
    words = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Give the cosine of each pair times the model's learned scale."""
        return _floats(self.clip.similarities(prompts, images) * self.clip.scale)


class HpsV2(ClipScorer):
    """Human Preference Score v2.1 (arXiv 2306.09341): the cosine, about 0.15 to 0.35."""

    name = "hps_v2"
    about = "Human Preference Score v2.1; about 0.15 to 0.35."
    licence = "Apache-2.0"
    low = -1.0
    high = 1.0
    published = Published("HPS_v2.1_compressed.pt", "xswu/HPSv2", pickled=True)
    words = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Give the cosine of each pair; the whole picture is seen, with black beside it."""
        from flowdesign.scorers.networks.pixels import pad

        return _floats(self.clip.similarities(prompts, images, pad))


class ImageReward(LearnedScorer):
    """Learned from experts' rankings (arXiv 2304.05977); about -2 to 2."""

    name = "imagereward"
    about = "What experts would rank higher; about -2 to 2, mean 0 on the authors' data."
    licence = "Apache-2.0"
    published = Published("ImageReward.pt", "zai-org/ImageReward", pickled=True)
    words = "google-bert/bert-base-uncased"

    def load(self, place: str, device: str) -> None:
        """Load the network and BERT's tokenizer."""
        from transformers import BertTokenizer

        from flowdesign.scorers.networks import blip
        from flowdesign.scorers.networks.loading import read_weights

        self.network = blip.build(read_weights(sources.fetch(place, self.file))).to(device)
        self.device = device
        words = self.tokenizer_place(place)
        try:
            self.tokenizer = BertTokenizer.from_pretrained(words)
        except OSError as fault:
            raise ScorerMissing(f"{words} has no tokenizer that can be read: {fault}") from fault

    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Give the reward of each pair."""
        import torch

        from flowdesign.scorers.networks import blip, pixels

        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=blip.TOKENS,
            return_tensors="pt",
        ).to(self.device)
        seen = pixels.to_pixels(images, self.network.side).to(self.device)
        with torch.inference_mode():
            return _floats(self.network(seen, tokens.input_ids, tokens.attention_mask))


class Aesthetic(LearnedScorer):
    """LAION's aesthetic predictor (sac+logos+ava1-l14-linearMSE): about 1 to 10, of the image alone.

    A head on CLIP ViT-L/14, which is looked for beside the head, then where clip_similarity has it.
    """

    name = "aesthetic"
    about = "How people would rate the look of the image, from 1 to 10."
    licence = "Apache-2.0"
    uses_prompt = False
    file = "head.safetensors"
    published = Published(
        "sac+logos+ava1-l14-linearMSE.pth",
        address="https://github.com/christophschuhmann/improved-aesthetic-predictor",
        pickled=True,
    )

    def load(self, place: str, device: str) -> None:
        """Load the head and the CLIP below it."""
        from flowdesign.scorers.networks.clip import load_clip
        from flowdesign.scorers.networks.head import build_head
        from flowdesign.scorers.networks.loading import read_weights

        self.head = build_head(read_weights(sources.fetch(place, self.file))).to(device)
        below = sources.local(ClipSimilarity.name, CLIP_L.file, place) or sources.find(
            ClipSimilarity.name, CLIP_L.file, CLIP_L
        )
        self.clip = load_clip(str(below), self.tokenizer_place(str(below)), device)

    def score(self, prompts: Sequence[str], images: Sequence[Image]) -> list[float]:
        """Give the head's figure for the unit vector of each picture."""
        import torch

        with torch.inference_mode():
            return _floats(self.head(self.clip.pictures(images)))


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]
