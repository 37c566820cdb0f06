"""Baselines that choose one of a few workflows, from what these scored on training prompts.

    fixed              the one with the best mean: no look at the prompt
    nearest            the best of the training prompts that are most alike (MiniLM embeddings)
    classifier         a logistic regression from the prompt's embedding to the best workflow
    labels             ComfyGen-IC (arXiv 2410.01731, section 3.2): a score for each workflow and prompt
                       label, and the labels of a prompt by its nearest neighbours (there: by a language model)

All settings are chosen by leaving training prompts out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from flowdesign.evaluate.setting import Sentence, Setting, Tabulated, Values
from flowdesign.records import Record
from flowdesign.scenes import parse
from flowdesign.tokens import Automaton, parse_sentence
from flowdesign.tokens.vocabulary import VOCABULARY

USUAL = {"sampler": "euler", "scheduler": "normal", "steps": 20, "cfg": 7.0}  # ComfyUI's, cfg 8
SHRINK = 8.0  # images of the overall mean that a workflow's mean is mixed with
NEIGHBOURS = (1, 2, 3, 5, 8, 12, 20)
HEATS = (0.1, 0.3)  # of the classifier's targets, in units of the score
STRENGTHS = (1.0, 10.0)  # inverse, of its regularisation
FOLDS = 4
LABELS = (  # ComfyGen's, of prompts that people write
    "people", "photo-realistic", "photo-artistic", "fantasy", "sci-fi", "horror", "anime", "abstract", "surreal",
    "cyberpunk", "steampunk", "gothic", "digital art", "portrait", "nature", "landscape", "wildlife", "urban",
    "cosmic", "underwater",
)  # fmt: skip
ALIKE = 5  # of them for a prompt, as many as there on average
Matrix = NDArray[np.float64]
Places = NDArray[np.int64]


def default_sentence(checkpoint: int, language: Automaton) -> Sentence:
    """The plainest workflow with a checkpoint (its token): ComfyUI's defaults, and nothing that may be left out."""
    state, said = language.start(), list[int]()
    while not language.done(state):
        allowed = [checkpoint] if not said else language.allowed(state)
        said.append(max(allowed, key=_usual))
        state = language.advance(state, said[-1])
    return tuple(said)


def default_sentences(language: Automaton) -> list[Sentence]:
    """The plainest workflow with each checkpoint."""
    return [default_sentence(token, language) for token in language.allowed(language.start())]


def promising(
    records: Sequence[Record], score: Callable[[Record], float], count: int
) -> list[Sentence]:
    """The workflows of records that look best: half of them over all prompts, and for each style as many
    of the rest. Means of few images are drawn towards the overall one."""
    kept = [one for one in records if one.sentence and not one.failure]
    styles = Counter(style for one in kept if (style := style_of(one.prompt)))
    found: dict[str, None] = dict.fromkeys(_best(kept, score)[: count // 2])
    rankings = [
        iter(_best([one for one in kept if style_of(one.prompt) == style], score))
        for style in sorted(styles)
    ] or [iter(_best(kept, score))]
    while len(found) < count and rankings:
        for ranking in list(rankings):
            new = next((one for one in ranking if one not in found), None)
            if new is None:
                rankings.remove(ranking)
            elif len(found) < count:
                found[new] = None
    return [parse_sentence(text) for text in found]


def fixed(table: Tabulated) -> Sentence:
    """The workflow with the best mean over the training prompts."""
    return table.sentences[int(table.scores.mean(0).argmax())]


def best_default(table: Tabulated, language: Automaton) -> Sentence:
    """The best of the plainest workflows, one for each checkpoint."""
    places = [table.sentences.index(one) for one in default_sentences(language)]
    return table.sentences[max(places, key=lambda at: float(table.scores[:, at].mean()))]


def nearest(setting: Setting, table: Tabulated, prompts: Sequence[str]) -> list[Sentence]:
    """For each prompt the workflow that did best for the training prompts that are most alike."""
    known, asked = _embedded(setting, table, prompts)

    def gain(count: int) -> float:
        return _left_out(known, table.scores, partial(_of_near, count=count))

    count = max(NEIGHBOURS, key=gain)
    return [table.sentences[at] for at in _of_near(known, table.scores, asked, count)]


def classifier(setting: Setting, table: Tabulated, prompts: Sequence[str]) -> list[Sentence]:
    """For each prompt the class that a logistic regression on its embedding gives: one of the workflows."""
    known, asked = _embedded(setting, table, prompts)
    options = [(heat, strength) for heat in HEATS for strength in STRENGTHS]

    def gain(option: tuple[float, float]) -> float:
        heat, strength = option
        return _left_out(known, table.scores, partial(_classified, heat=heat, strength=strength))

    heat, strength = max(options, key=gain)
    chosen = _classified(known, table.scores, asked, heat, strength)
    return [table.sentences[at] for at in chosen]


def labels(setting: Setting, table: Tabulated, prompts: Sequence[str]) -> list[Sentence]:
    """For each prompt the workflow with the best mean score over the prompt's labels (ComfyGen-IC)."""
    known, asked = _embedded(setting, table, prompts)
    own = labels_of(setting, table.prompts)
    means = {
        label: np.mean([row for row, has in zip(table.scores, own, strict=True) if label in has], 0)
        for label in sorted({label for has in own for label in has})
    }
    near = (known @ asked.T).argsort(0)[::-1][:5].T
    found = []
    for rows in near:
        counted = Counter(label for row in rows for label in own[row])
        wanted = [label for label, times in counted.items() if 2 * times > len(rows)] or [
            counted.most_common(1)[0][0]
        ]
        found.append(table.sentences[int(sum(means[label] for label in wanted).argmax())])
    return found


def style_of(prompt: str) -> str:
    """The style that a prompt of the miniature world names; "" for any other."""
    spec = parse(prompt)
    return (spec.style or "") if spec else ""


def labels_of(setting: Setting, prompts: Sequence[str]) -> list[tuple[str, ...]]:
    """What kind of prompt each is: of the miniature world its style, GenEval's category and its backdrop; of
    any other those of ComfyGen's labels that it is most alike, the nearest first."""
    found = [_of_scene(prompt) for prompt in prompts]
    if others := [at for at, labels in enumerate(found) if not labels]:
        near = _embed(setting, [prompts[at] for at in others]) @ setting.encoder.embed(LABELS).T
        for at, row in zip(others, (-near).argsort(1, kind="stable")[:, :ALIKE], strict=True):
            found[at] = tuple(LABELS[label] for label in row)
    return found


def _of_scene(prompt: str) -> tuple[str, ...]:
    spec = parse(prompt)
    return tuple(filter(None, (spec.style, spec.category, spec.backdrop))) if spec else ()


def _usual(token: int) -> tuple[bool, bool, int]:
    """How usual a choice is: the defaults first, then what leaves something out, then the first."""
    word = VOCABULARY.words[token]
    default = word.group in USUAL and word.value == USUAL[word.group]
    return default, word.value in ("none", None), -token


def _best(records: Sequence[Record], score: Callable[[Record], float]) -> list[str]:
    """The sentences of records, the one with the best shrunken mean first."""
    values: dict[str, list[float]] = {}
    for record in records:
        if np.isfinite(value := score(record)):
            values.setdefault(record.sentence, []).append(value)
    overall = float(np.mean([value for row in values.values() for value in row])) if values else 0.0
    means = {
        text: (sum(row) + SHRINK * overall) / (len(row) + SHRINK) for text, row in values.items()
    }
    return sorted(means, key=lambda text: (-means[text], text))


def _embedded(setting: Setting, table: Tabulated, prompts: Sequence[str]) -> tuple[Matrix, Matrix]:
    return setting.encoder.embed(table.prompts), _embed(setting, prompts)


def _embed(setting: Setting, prompts: Sequence[str]) -> Matrix:
    found: Matrix = np.concatenate([setting.encoder.embed(part) for part in _parts(prompts)])
    return found


def _parts(prompts: Sequence[str], size: int = 64) -> Iterator[Sequence[str]]:
    for first in range(0, len(prompts), size):
        yield prompts[first : first + size]


def _of_near(train: Matrix, scores: Values, test: Matrix, count: int) -> Places:
    """For each row of test the workflow that did best for the `count` rows of train most like it."""
    near = (test @ train.T).argsort(1)[:, ::-1][:, :count]
    found: Places = scores[near].mean(1).argmax(1)
    return found


def _classified(
    train: Matrix, scores: Values, test: Matrix, heat: float, strength: float
) -> Places:
    """Classes of test rows, by a model that learned softmax(scores / heat) of the train rows."""
    from sklearn.linear_model import LogisticRegression

    weights = np.exp((scores - scores.max(1, keepdims=True)) / heat)
    weights /= weights.sum(1, keepdims=True)
    rows, classes = np.nonzero(weights > 1e-3)
    if len(set(classes.tolist())) == 1:
        return np.full(len(test), classes[0])
    model = LogisticRegression(C=strength, max_iter=300)
    model.fit(train[rows], classes, sample_weight=weights[rows, classes])
    found: Places = model.predict(test)
    return found


def _left_out(
    train: Matrix,
    scores: Values,
    choose: Callable[[Matrix, Values, Matrix], Places],
) -> float:
    """The mean score of what is chosen for rows that were left out, a fold at a time."""
    folds = np.arange(len(train)) % FOLDS
    earned = []
    for fold in range(FOLDS):
        out = folds == fold
        if out.any() and not out.all():
            picks = choose(train[~out], scores[~out], train[out])
            earned += list(scores[out][np.arange(int(out.sum())), picks])
    return float(np.mean(earned))
