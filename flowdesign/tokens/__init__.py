"""Workflows as short sentences: the vocabulary, the grammar, and the way there and back.

A sentence is one token per choice, in one order; wiring is implied. The automaton knows which
tokens may follow on this installation, so every sentence it allows decodes to a workflow that runs.
Prompt and seed are never words of a sentence.

With the whole catalogue installed there are 43,198,808,439,142,177,695,498,240 sentences (4.3e25), all
different workflows; `count_sentences` counts them, a test holds it to the number.
"""

from flowdesign.tokens.automaton import (
    MAX_TOKENS,
    Automaton,
    count_sentences,
    longest_sentence,
    random_sentence,
)
from flowdesign.tokens.codec import (
    Decoded,
    Encoded,
    decode,
    encode,
    parse_sentence,
    sentence_text,
    workflow_of,
)
from flowdesign.tokens.grammar import State
from flowdesign.tokens.reader import NotInLanguage
from flowdesign.tokens.restriction import CannotFix, Restricted, restrict
from flowdesign.tokens.variants import alternatives, changed, variants
from flowdesign.tokens.vocabulary import (
    END,
    VOCABULARY,
    UnknownToken,
    Vocabulary,
    VocabularyMismatch,
    Word,
)

__all__ = [
    "END",
    "MAX_TOKENS",
    "VOCABULARY",
    "Automaton",
    "CannotFix",
    "Decoded",
    "Encoded",
    "NotInLanguage",
    "Restricted",
    "State",
    "UnknownToken",
    "Vocabulary",
    "VocabularyMismatch",
    "Word",
    "alternatives",
    "changed",
    "count_sentences",
    "decode",
    "encode",
    "longest_sentence",
    "parse_sentence",
    "random_sentence",
    "restrict",
    "sentence_text",
    "variants",
    "workflow_of",
]
