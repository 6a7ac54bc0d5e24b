"""The bricks: embeddings, attention mask, encoder, heads. Every one is described by a `ModelConfig`."""

from bert4albert.layers.attention import AttentionMask
from bert4albert.layers.embeddings import Embeddings
from bert4albert.layers.encoder import Block, Encoder
from bert4albert.layers.heads import MaskedLMHead, MaskedLMTransform, Pooler, SentenceHead

__all__ = [
    "AttentionMask",
    "Block",
    "Embeddings",
    "Encoder",
    "MaskedLMHead",
    "MaskedLMTransform",
    "Pooler",
    "SentenceHead",
]
