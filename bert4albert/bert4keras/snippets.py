"""Everything that scripts import from bert4keras' `snippets`."""

from __future__ import annotations

from bert4albert.bert4keras.backend import K, keras
from bert4albert.bert4keras.decoders import AutoRegressiveDecoder, ViterbiDecoder, softmax
from bert4albert.bert4keras.generators import DataGenerator, sequence_padding
from bert4albert.bert4keras.texts import (
    convert_to_str,
    convert_to_unicode,
    is_one_of,
    is_string,
    longest_common_subsequence,
    longest_common_substring,
    lowercase_and_normalize,
    open,
    parallel_apply,
    parallel_apply_generator,
    string_matching,
    strQ2B,
    text_segmentate,
    to_array,
    truncate_sequences,
)
from bert4albert.bert4keras.web import WebServing

__all__ = [
    "AutoRegressiveDecoder",
    "DataGenerator",
    "K",
    "ViterbiDecoder",
    "WebServing",
    "convert_to_str",
    "convert_to_unicode",
    "is_one_of",
    "is_py2",
    "is_string",
    "keras",
    "longest_common_subsequence",
    "longest_common_substring",
    "lowercase_and_normalize",
    "open",
    "parallel_apply",
    "parallel_apply_generator",
    "sequence_padding",
    "softmax",
    "strQ2B",
    "string_matching",
    "text_segmentate",
    "to_array",
    "truncate_sequences",
    "uniout",
]

is_py2 = False
uniout = None  # printed Chinese readably in Python 2; in Python 3 nothing is needed
