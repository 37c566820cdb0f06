"""Workflows as short sentences: the vocabulary, the grammar, and the way there and back.

A sentence is one token per choice, in one order; wiring is implied. The automaton knows which
tokens may follow on this installation, so every sentence it allows decodes to a workflow that runs.
Prompt and seed are never words of a sentence.
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
)
from flowdesign.tokens.grammar import State
from flowdesign.tokens.reader import NotInLanguage
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
    "Decoded",
    "Encoded",
    "NotInLanguage",
    "State",
    "UnknownToken",
    "Vocabulary",
    "VocabularyMismatch",
    "Word",
    "count_sentences",
    "decode",
    "encode",
    "longest_sentence",
    "parse_sentence",
    "random_sentence",
    "sentence_text",
]
