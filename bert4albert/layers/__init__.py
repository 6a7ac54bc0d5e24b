"""The bricks of the trunk, each described by a `ModelConfig`; and, by name, what `heads` has to put on it."""

from bert4albert.heads.conditional_norm import ConditionalLayerNormalization
from bert4albert.heads.crf import CRF
from bert4albert.heads.half_pointers import CasRelLoss, ObjectPointers, SubjectSampler, power_crossentropy
from bert4albert.heads.pointers import EfficientGlobalPointer, GlobalPointer, multilabel_crossentropy, span_loss
from bert4albert.layers.adapters import DepthAdapter
from bert4albert.layers.attention import AttentionMask, padding_mask
from bert4albert.layers.embeddings import Embeddings
from bert4albert.layers.encoder import Block, Encoder, EncoderOutput, Step
from bert4albert.layers.heads import MaskedLMHead, MaskedLMTransform, Pooler, SentenceHead
from bert4albert.layers.masks import PaddingMask, padding_of

__all__ = [
    "CRF",
    "AttentionMask",
    "Block",
    "CasRelLoss",
    "ConditionalLayerNormalization",
    "DepthAdapter",
    "EfficientGlobalPointer",
    "Embeddings",
    "Encoder",
    "EncoderOutput",
    "GlobalPointer",
    "MaskedLMHead",
    "MaskedLMTransform",
    "ObjectPointers",
    "PaddingMask",
    "Pooler",
    "SentenceHead",
    "Step",
    "SubjectSampler",
    "multilabel_crossentropy",
    "padding_mask",
    "padding_of",
    "power_crossentropy",
    "span_loss",
]
