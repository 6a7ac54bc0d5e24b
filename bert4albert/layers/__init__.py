"""The bricks of the trunk, each described by a `ModelConfig`; and, by name, what `heads` has to put on it."""

from bert4albert.heads.conditional_norm import ConditionalLayerNormalization
from bert4albert.heads.crf import CRF
from bert4albert.heads.half_pointers import CasRelLoss, ObjectPointers, SubjectSampler, power_crossentropy
from bert4albert.heads.pointers import EfficientGlobalPointer, GlobalPointer, multilabel_crossentropy, span_loss
from bert4albert.layers.attention import AttentionMask
from bert4albert.layers.embeddings import Embeddings
from bert4albert.layers.encoder import Block, Encoder
from bert4albert.layers.heads import MaskedLMHead, MaskedLMTransform, Pooler, SentenceHead

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
