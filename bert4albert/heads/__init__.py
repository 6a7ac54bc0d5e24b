"""What tasks put on a trunk: pooling, pointers, CRF, conditional norm. None of them knows the trunk's config."""

from bert4albert.heads.conditional_norm import ConditionalLayerNormalization
from bert4albert.heads.crf import CRF
from bert4albert.heads.exits import ExitHeads, exits_loss
from bert4albert.heads.half_pointers import CasRelLoss, ObjectPointers, SubjectSampler, power_crossentropy
from bert4albert.heads.pointers import EfficientGlobalPointer, GlobalPointer, multilabel_crossentropy, span_loss
from bert4albert.heads.pooling import FirstToken, MeanPooling

__all__ = [
    "CRF",
    "CasRelLoss",
    "ConditionalLayerNormalization",
    "EfficientGlobalPointer",
    "ExitHeads",
    "FirstToken",
    "GlobalPointer",
    "MeanPooling",
    "ObjectPointers",
    "SubjectSampler",
    "exits_loss",
    "multilabel_crossentropy",
    "power_crossentropy",
    "span_loss",
]
