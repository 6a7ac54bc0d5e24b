"""`keras`, `K`, and the functions of bert4keras that work on tensors."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.bert4keras import k as K  # noqa: N812  (its name in every script)
from bert4albert.bert4keras import keras2, keras_history
from bert4albert.bert4keras.symbolic import one_or_list
from bert4albert.errors import ConfigError, require_choice
from bert4albert.heads.pointers import rotary_angles, turn_pairs
from bert4albert.training.schedules import line_through

__all__ = [
    "K",
    "align",
    "apply_rotary_position_embeddings",
    "attention_normalize",
    "batch_gather",
    "divisible_temporal_padding",
    "gelu_erf",
    "gelu_tanh",
    "get_all_attributes",
    "is_tf_keras",
    "keras",
    "leaky_relu",
    "multilabel_categorical_crossentropy",
    "piecewise_linear",
    "pool1d",
    "recompute_grad",
    "root_mean_square",
    "search_layer",
    "sequence_masking",
    "set_gelu",
    "sinusoidal_embeddings",
    "sparse_multilabel_categorical_crossentropy",
    "swish",
]

# Scripts say by this variable which of two Keras they run on, and bert4keras' optimizers differ between them.
is_tf_keras = os.environ.get("TF_KERAS", "0").lower() in ("1", "true", "yes", "on", "y", "t")


def gelu_erf(x: Any) -> Any:
    """Return x * Phi(x), exactly."""
    return ops.gelu(x, approximate=False)


def gelu_tanh(x: Any) -> Any:
    """Return x * Phi(x) as Google's BERT approximates it, by tanh."""
    return ops.gelu(x, approximate=True)


def swish(x: Any) -> Any:
    """Return x * sigmoid(x)."""
    return ops.silu(x)


def leaky_relu(x: Any, alpha: float = 0.2) -> Any:
    """Return x, or alpha * x where it is negative."""
    return ops.leaky_relu(x, negative_slope=alpha)


def root_mean_square(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the root of the mean of squares."""
    return ops.sqrt(ops.mean(ops.square(x), axis=axis, keepdims=keepdims))


_GELU = {"version": "erf"}


def set_gelu(version: str) -> None:
    """Say what "gelu" means in the models and layers made from now on.

    Arguments:
        version: 'erf', which it means until this is called, or 'tanh', as in Google's programs.
    """
    require_choice("version", version.lower(), ("erf", "tanh"))
    _GELU["version"] = version.lower()
    keras.utils.get_custom_objects()["gelu"] = gelu_tanh if version.lower() == "tanh" else gelu_erf


def gelu_now() -> str:
    """Return what "gelu" means now, in the words of `ModelConfig`."""
    return f"gelu_{_GELU['version']}"


def activation_of(identifier: Any) -> Any:
    """Return the function of an activation's name, of bert4keras or of Keras, "gelu" as `set_gelu` says."""
    own = keras.utils.get_custom_objects().get(identifier) if isinstance(identifier, str) else None
    return own or keras.activations.get(identifier)


def as_saved(config: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the config of a saved layer, the activations under `key` as they were, whatever `set_gelu` says now.

    Files name the form of gelu; those from before "gelu" was what `set_gelu` says call that by erf "gelu".
    """
    given = config.get(key)
    if isinstance(given, list):
        return {**config, key: ["gelu_erf" if one == "gelu" else one for one in given]}
    return {**config, key: "gelu_erf"} if given == "gelu" else config


def search_layer(inputs: Any, name: str, exclude_from: Any = None) -> Any:
    """Return the layer of this name that a layer or tensor depends on.

    Arguments:
        inputs: a layer, or its output; inside a loss function, the predictions of the model being trained.
        name: the layer's name.
        exclude_from: layers before which none is looked for.

    Returns:
        The layer, or None if there is no such layer.
    """
    if isinstance(inputs, keras.layers.Layer):
        if inputs.name == name:
            return inputs
        outputs = [tensor for _, given in keras_history.calls_of(inputs)[:1] for tensor in given]
        within = inputs.layers if isinstance(inputs, keras.Model) else []
        before = [*within, *(one for tensor in outputs for one in keras_history.layers_before(tensor, exclude_from))]
    elif keras_history.layer_of(inputs) is not None:
        before = list(keras_history.layers_before(inputs, exclude_from))
    else:
        # Actual numbers do not know where they came from: they came from the model whose loss is being computed.
        before = list(keras2.layers_in_training())
    return next((layer for layer in before if layer.name == name), None)


def align(tensor: Any, axes: Sequence[int], ndim: int | None = None) -> Any:
    """Return a tensor with more axes: its axis i becomes axis axes[i] of `ndim`, the others have size 1."""
    ndim = ndim or max(axes) + 1
    places = [axis % ndim for axis in axes]
    sizes = iter(ops.shape(tensor))
    return ops.reshape(tensor, [next(sizes) if axis in places else 1 for axis in range(ndim)])


def sequence_masking(
    x: Any,
    mask: Any = None,
    value: Any = 0,
    axis: Any = None,
    bias: Any = None,
    return_mask: bool = False,
) -> Any:
    """Return `x` with the masked places replaced.

    Arguments:
        x: any tensor whose first axis is the batch.
        mask: bool or 0/1 [batch, length]; None for no mask.
        value: what to put where the mask is 0: a number, `-np.inf` included.
        axis: the axis of `x` along which the mask goes, 1 by default; a list for several.
        bias: added to `x`; or, if bool, another mask that broadcasts to `x`.
        return_mask: whether to return the joined mask as well.

    Returns:
        A tensor like `x`, or the pair (that, the mask).
    """
    if mask is not None:
        axes = axis if isinstance(axis, list) else [1 if axis is None else axis]
        full = [align(ops.cast(mask, "bool"), [0, a % K.ndim(x)], K.ndim(x)) for a in axes]
        mask = full[0] if len(full) == 1 else ops.logical_and(*full)
    if bias is not None and K.dtype(bias) == "bool":
        mask = bias if mask is None else ops.logical_and(mask, bias)
    elif bias is not None:
        x = x + bias
    if mask is not None:
        x = ops.where(mask, x, ops.cast(value, x.dtype))
    return (x, mask) if return_mask else x


def batch_gather(params: Any, indices: Any) -> Any:
    """Return, for each row, the entries of `params` [batch, ..., n, ...] at `indices` [batch, ..., k]."""
    indices = ops.cast(indices, "int32")
    axis = K.ndim(indices) - 1
    for _ in range(K.ndim(params) - K.ndim(indices)):
        indices = ops.expand_dims(indices, -1)
    sizes = [*ops.shape(indices)[: axis + 1], *ops.shape(params)[axis + 1 :]]
    return ops.take_along_axis(params, ops.broadcast_to(indices, sizes), axis=axis)


pool1d = K.pool2d


def divisible_temporal_padding(x: Any, n: int) -> Any:
    """Fill up [batch, length, size] with zeros so that `n` divides the length."""
    return K.temporal_padding(x, (0, -ops.shape(x)[1] % n))


def piecewise_linear(t: Any, schedule: dict[int, float], from_zero: bool = True) -> Any:
    """Return the value at step `t` of the line through the points of `schedule`, {step: value}.

    Arguments:
        t: the step.
        schedule: at least one point; after the last one the value stays.
        from_zero: whether the line starts at (0, 0), if the schedule has no step 0.
    """
    points = {point: schedule[point] for point in sorted(schedule)}
    if from_zero and 0 not in points:
        points = {0: 0.0, **points}
    return line_through(points, ops.cast(t, K.floatx()))


def sinusoidal_embeddings(pos: Any, dim: int, base: float = 10000) -> Any:
    """Return the sine-cosine embeddings of positions [..., n] as [..., n, dim] (arXiv:1706.03762)."""
    if dim % 2:
        raise ConfigError(f"dim={dim} is odd, but sines and cosines come in pairs; use an even number.")
    angles = rotary_angles(ops.cast(pos, K.floatx()), dim, float(base))
    return K.flatten(ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1), -2)


def apply_rotary_position_embeddings(sinusoidal: Any, *tensors: Any) -> Any:
    """Turn pairs of features by their position (arXiv:2104.09864).

    Arguments:
        sinusoidal: [batch, length, size], what `sinusoidal_embeddings` gives.
        tensors: each [batch, length, ..., size].

    Returns:
        The turned tensor, or a list of them.
    """
    sinusoidal = align(sinusoidal, [0, 1, -1], K.ndim(tensors[0]))
    sines, cosines = (ops.repeat(sinusoidal[..., first::2], 2, axis=-1) for first in (0, 1))
    return one_or_list([turn_pairs(x, sines, cosines) for x in tensors])


def attention_normalize(a: Any, mask: Any = None, axis: int = -1, method: str = "softmax", bias: Any = None) -> Any:
    """Return attention weights from scores: 'softmax', 'squared_relu' (arXiv:2202.10447) or 'softmax_plus'."""
    require_choice("method", method, ("softmax", "squared_relu", "softmax_plus"))
    a, mask = sequence_masking(a, mask, -1e12 if method != "squared_relu" else 0.0, axis, bias, return_mask=True)
    if method == "softmax":
        return ops.softmax(a, axis=axis)
    length = ops.cast(ops.shape(a)[-1], a.dtype)
    if mask is not None:
        length = ops.sum(ops.cast(mask, a.dtype), axis=axis, keepdims=True)
    if method == "squared_relu":
        return ops.square(ops.relu(a)) / length
    return ops.softmax(a * ops.log(ops.maximum(length, 16.0)) / float(np.log(512)), axis=axis)


def multilabel_categorical_crossentropy(y_true: Any, y_pred: Any) -> Any:
    """Return the cross-entropy of several labels at once (kexue.fm/archives/7359).

    Arguments:
        y_true: [..., classes], from 0 to 1.
        y_pred: [..., classes], scores; a class counts as predicted above 0. -inf leaves a class out.

    Returns:
        [...].
    """
    out = ops.cast(-np.inf, y_pred.dtype)
    known = ops.not_equal(y_pred, out)
    zeros = ops.zeros_like(y_pred[..., :1])
    negative = ops.where(known, y_pred, out) + ops.log(1 - y_true)
    positive = ops.where(known, -y_pred, out) + ops.log(y_true)
    return ops.logsumexp(ops.concatenate([negative, zeros], axis=-1), axis=-1) + ops.logsumexp(
        ops.concatenate([positive, zeros], axis=-1), axis=-1
    )


def sparse_multilabel_categorical_crossentropy(y_true: Any, y_pred: Any, mask_zero: bool = False) -> Any:
    """Return the cross-entropy of several labels at once, which are given by their numbers (kexue.fm/archives/7359).

    Arguments:
        y_true: [..., count], the numbers of the right classes.
        y_pred: [..., classes], scores.
        mask_zero: whether class 0 is only there to fill up `y_true`.

    Returns:
        [...].
    """
    zeros = ops.zeros_like(y_pred[..., :1])
    scores = ops.concatenate([y_pred, zeros], axis=-1)
    infinity = zeros + np.inf
    first = ops.concatenate([infinity, scores[..., 1:]], axis=-1) if mask_zero else scores
    right = batch_gather(first, y_true)
    right_and_zero = ops.concatenate([right, zeros], axis=-1)
    if mask_zero:
        scores = ops.concatenate([-infinity, scores[..., 1:]], axis=-1)
        right = batch_gather(scores, y_true)
    positive_loss = ops.logsumexp(-right_and_zero, axis=-1)
    of_all = ops.logsumexp(scores, axis=-1)
    rest = ops.clip(1 - ops.exp(ops.logsumexp(right, axis=-1) - of_all), K.epsilon(), 1)
    return positive_loss + of_all + ops.log(rest)


def get_all_attributes(something: Any) -> dict[str, Any]:
    """Return the public attributes of an object, as scripts use it to import all of a module."""
    return {name: getattr(something, name) for name in dir(something) if name[0] != "_"}


def recompute_grad(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call` as it is, and say that recomputing is asked for by `build_model(..., remat=True)` here."""
    warnings.warn("recompute_grad changes nothing here; pass remat=True to bert4albert.build_model.", stacklevel=2)
    return call


set_gelu("erf")
keras.utils.get_custom_objects().update(
    {
        "gelu_erf": gelu_erf,
        "gelu_tanh": gelu_tanh,
        "leaky_relu": leaky_relu,
        "multilabel_categorical_crossentropy": multilabel_categorical_crossentropy,
        "root_mean_square": root_mean_square,
        "swish": swish,
    }
)
