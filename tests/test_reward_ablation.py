"""What each choice contributes, against a predictor whose rule is known."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from language_toys import AUTOMATON, PLAIN

from flowdesign.reward.ablation import contributions
from flowdesign.tokens import VOCABULARY, parse_sentence, variants


@dataclass(frozen=True)
class Means:
    mean: np.ndarray


class Likes:
    """Gives 1 for ddim and 0.25 for each word of a LoRA."""

    def predict(self, prompts: Sequence[str], sentences: Sequence[Sequence[int]]) -> Means:
        assert set(prompts) == {"a red star"} and len(prompts) == len(sentences)
        return Means(np.array([self._score(sentence) for sentence in sentences]))

    def _score(self, sentence: Sequence[int]) -> float:
        words = [VOCABULARY.tokens[token] for token in sentence]
        loras = sum(w.startswith("<lora:") and w != "<lora:none>" for w in words)
        return ("<sampler:ddim>" in words) + 0.25 * loras


def test_contributions_follow_from_the_rule() -> None:
    sentence = parse_sentence(PLAIN.replace("sampler:euler", "sampler:ddim"))
    found = {
        VOCABULARY.tokens[each.token]: each
        for each in contributions(Likes(), "a red star", sentence, AUTOMATON)
    }
    sampler, lora, cfg = (found[w] for w in ("<sampler:ddim>", "<lora:none>", "<cfg:4>"))
    assert sampler.gain == 1 and sampler.best_gain == -1
    assert lora.best_gain == 0.25 and VOCABULARY.tokens[lora.best] != "<lora:none>"
    assert lora.gain == -0.25
    assert cfg.gain == 0 and cfg.best_gain == 0
    changes = list(variants(sentence, AUTOMATON, random.Random(0)))
    assert sum(each.others for each in found.values()) == len(changes)
