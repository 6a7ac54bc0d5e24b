"""The bricks: embeddings, attention mask, encoder, heads. Every one is described by a `ModelConfig`."""

from bert4albert.layers.attention import AttentionMask
from bert4albert.layers.conditional_norm import ConditionalLayerNormalization
from bert4albert.layers.crf import CRF
from bert4albert.layers.embeddings import Embeddings
from bert4albert.layers.encoder import Block, Encoder
from bert4albert.layers.half_pointers import CasRelLoss, ObjectPointers, SubjectSampler, power_crossentropy
from bert4albert.layers.heads import MaskedLMHead, MaskedLMTransform, Pooler, SentenceHead
from bert4albert.layers.pointers import EfficientGlobalPointer, GlobalPointer, multilabel_crossentropy, span_loss

__all__ = [
    "CRF",
    "AttentionMask",
    "Block",
    "CasRelLoss",
    "ConditionalLayerNormalization",
    "EfficientGlobalPointer",
    "Embeddings",
    "Encoder",
    "GlobalPointer",
    "MaskedLMHead",
    "MaskedLMTransform",
    "ObjectPointers",
    "Pooler",
    "SentenceHead",
    "SubjectSampler",
    "multilabel_crossentropy",
    "power_crossentropy",
    "span_loss",
]
