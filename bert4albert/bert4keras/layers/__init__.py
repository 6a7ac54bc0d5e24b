# ruff: noqa: F401
"""bert4keras' layers, and all of Keras' own, as `from bert4keras.layers import *` gave them."""

import keras as _keras
from keras import activations, initializers
from keras.layers import *  # noqa: F403

from bert4albert.bert4keras.backend import K, align, keras, recompute_grad, sequence_masking
from bert4albert.bert4keras.layers.attention import FeedForward, MultiHeadAttention
from bert4albert.bert4keras.layers.crf import ConditionalRandomField, MaximumEntropyMarkovModel
from bert4albert.bert4keras.layers.embeddings import Embedding, PositionEmbedding, SinusoidalPositionEmbedding
from bert4albert.bert4keras.layers.losses import BatchConcat, BatchSplit, BiasAdd, Concatenate1D, Loss
from bert4albert.bert4keras.layers.norms import LayerNormalization, ScaleOffset
from bert4albert.bert4keras.layers.pointers import EfficientGlobalPointer, GlobalPointer
from bert4albert.bert4keras.layers.pooling import GlobalMaxPooling1D
from bert4albert.bert4keras.registration import Layer

_OWN = [
    "BatchConcat",
    "BatchSplit",
    "BiasAdd",
    "Concatenate1D",
    "ConditionalRandomField",
    "EfficientGlobalPointer",
    "Embedding",
    "FeedForward",
    "GlobalMaxPooling1D",
    "GlobalPointer",
    "K",
    "Layer",
    "LayerNormalization",
    "Loss",
    "MaximumEntropyMarkovModel",
    "MultiHeadAttention",
    "PositionEmbedding",
    "ScaleOffset",
    "SinusoidalPositionEmbedding",
    "activations",
    "align",
    "initializers",
    "keras",
    "recompute_grad",
    "sequence_masking",
]

__all__ = [*_OWN, *(name for name in dir(_keras.layers) if name[0] != "_" and name not in _OWN)]
