"""A toy world for reward models: scores that follow from prompt and workflow by a known rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, BertTokenizer

from flowdesign.catalog import known_assets
from flowdesign.config import RewardConfig, build
from flowdesign.records import Record
from flowdesign.scenes import DOMAINS, random_prompt
from flowdesign.standards import Reference, Standard
from flowdesign.tokens import VOCABULARY, Automaton, decode, random_sentence, sentence_text

NOISE = 0.15
QUICK = {
    "members": 2, "width": 32, "layers": 2, "rank": 2, "steps": 6, "prompts": 6, "workflows": 6,
    "evaluate_every": 2, "save_every": 2, "warmup": 2, "encoder_rate": 1e-3,
}  # fmt: skip
REFERENCE = Reference(
    "toys", {"scene_soft": Standard(0.5, 0.3, 10), "sharpness": Standard(0.5, 0.2, 10)}
)


def toy_config(encoder: str, **options: Any) -> RewardConfig:
    """A config whose run takes seconds and learns nothing."""
    return build(RewardConfig, {**QUICK, "encoder": encoder, **options})


def toy_records(prompts: int, workflows: int, seed: int = 0, seeds: int = 1) -> Iterator[Record]:
    """Records of every prompt with some workflows of its own."""
    rng = random.Random(f"toys/{seed}")
    language = Automaton(VOCABULARY, known_assets())
    number = 0
    for _ in range(prompts):
        domain = rng.choice(DOMAINS)
        prompt = random_prompt(rng, domain, rng.choice(("train", "test")))
        for _ in range(workflows):
            sentence = random_sentence(language, rng)
            workflow = decode(sentence).workflow
            assert workflow is not None
            for image in range(seeds):
                number += 1
                yield Record(
                    prompt, workflow, image, sentence_text(sentence), id=number, source="toys",
                    scores={
                        "scene_soft": true_score(prompt, sentence) + rng.gauss(0, NOISE),
                        "sharpness": rng.gauss(0.5, 0.2),
                    },
                )  # fmt: skip


def true_score(prompt: str, sentence: tuple[int, ...]) -> float:
    """The expected scene_soft: a high cfg suits night and outline prompts and spoils the others."""
    words = {VOCABULARY.tokens[token] for token in sentence}
    high = bool(words & {"<cfg:5>", "<cfg:7>", "<cfg:9>", "<cfg:12>"})
    return 0.2 + 0.6 * (high == ("night" in prompt or "outline" in prompt))


def write_tiny_encoder(folder: Path, family: str = "bert") -> str:
    """A model of two narrow layers that knows letters and common words, as transformers writes one."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    words += ["red", "blue", "green", "star", "circle", "style", "flat", "night", "outline"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    special = {
        f"{name}_token_id": words.index(f"[{name.upper()}]") for name in ("pad", "cls", "sep")
    }
    config = AutoConfig.for_model(
        family, vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=256, **special,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)
