"""Generating text with a language model: search, cached keys and values, `generate` and `stream`."""

from bert4albert.generation.cache import CachedDecoding, Decoder, UncachedDecoding
from bert4albert.generation.generate import generate, stream
from bert4albert.generation.search import Decoding, LogitsProcessor, Options, Search, search

__all__ = [
    "CachedDecoding",
    "Decoder",
    "Decoding",
    "LogitsProcessor",
    "Options",
    "Search",
    "UncachedDecoding",
    "generate",
    "search",
    "stream",
]
