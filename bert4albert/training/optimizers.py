"""Optimizers as BERT is fine-tuned with: AdamW with exclusions, and a learning rate for each depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from bert4albert.checkpoint.names import depths_of
from bert4albert.config import ModelConfig
from bert4albert.errors import ConfigError
from bert4albert.model import Trunk
from bert4albert.training.layerwise_optimizer import LayerwiseOptimizer
from bert4albert.training.schedules import warmup_linear_decay

NOT_DECAYED = ("bias", "gamma", "beta")


def adamw(
    learning_rate: Any, weight_decay: float = 0.01, *, clipnorm: float | None = 1.0, accumulate: int = 1
) -> keras.optimizers.AdamW:
    """Return AdamW as BERT uses it: no weight decay on biases and norms, gradients clipped (arXiv:1810.04805).

    Arguments:
        learning_rate: a number or a Keras schedule.
        weight_decay: part of a weight that is taken off at each step, times the learning rate.
        clipnorm: the largest norm of all gradients together; None for any.
        accumulate: batches whose gradients are averaged for one step.

    Examples:
        >>> from bert4albert.training import adamw
        >>> optimizer = adamw(1e-4, accumulate=2)
        >>> optimizer.gradient_accumulation_steps, optimizer.global_clipnorm
        (2, 1.0)
    """
    optimizer = keras.optimizers.AdamW(
        learning_rate,
        weight_decay=weight_decay,
        epsilon=1e-6,
        global_clipnorm=clipnorm,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=[*NOT_DECAYED])
    return optimizer


def layerwise(
    trunk: Trunk, make_optimizer: Callable[[float], keras.optimizers.Optimizer], decay: float
) -> LayerwiseOptimizer:
    """Return an optimizer with a lower learning rate for lower layers (arXiv:2003.10555).

    Layers above the trunk have the factor 1, the last depth `decay`, the one below `decay ** 2`, and so on down
    to the embeddings. A copy used at several depths has the mean of their factors. Where the optimizers clip by a
    norm, it is that of all gradients together, as with one optimizer.

    Arguments:
        trunk: the trunk that is trained.
        make_optimizer: makes an optimizer for a factor of the learning rate.
        decay: the factor from one depth to that below it, above 0 and up to 1.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.training import adamw, layerwise
        >>> trunk = build_model("albert_tiny_zh", model="albert_unshared")
        >>> optimizer = layerwise(trunk, lambda factor: adamw(1e-4 * factor), decay=0.5)
        >>> weights = [block.attention.query.kernel for block in trunk.encoder.blocks]
        >>> [f"{float(optimizer.trainer_of(weight.path).learning_rate):.2e}" for weight in weights]
        ['6.25e-06', '1.25e-05', '2.50e-05', '5.00e-05']
    """
    if not 0 < decay <= 1:
        raise ConfigError(f"The layer decay must be above 0 and not above 1; {decay!r} was given.")
    schedule = trunk.config.sharing
    factors = {weight.path: decay ** (schedule.depth + 1) for weight in trunk.embeddings.trainable_variables}
    for name, weight in trunk.encoder.named_weights("encoder"):
        at_depths = [decay ** (schedule.depth - depth) for depth in depths_of(name, schedule)]
        factors[weight.path] = float(np.mean(at_depths))
    order = list(dict.fromkeys(factors.values()))
    optimizers = [make_optimizer(1.0), *map(make_optimizer, order)]
    return LayerwiseOptimizer(optimizers, {path: 1 + order.index(factor) for path, factor in factors.items()})


def default_learning_rate(config: ModelConfig) -> float:
    """Return a learning rate that suits models of this size: 1e-4 up to a hidden size of 512, 3e-5 above."""
    return 1e-4 if config.hidden_size <= 512 else 3e-5


def default_optimizer(
    trunk: Trunk,
    steps: int | None,
    learning_rate: Any = None,
    *,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    layer_decay: float = 1.0,
    accumulate: int = 1,
) -> keras.optimizers.Optimizer:
    """Return what `Task.fit` trains with: AdamW, warm-up and linear decay, layer-wise if asked for.

    Arguments:
        trunk: the trunk that is trained.
        steps: the number of batches of the training: Keras asks a schedule once a batch, also where several
            make one update. None for one rate throughout, which a callback may set.
        learning_rate: the highest rate, by default `default_learning_rate`; or a Keras schedule, used as it is.
        warmup: as in `warmup_linear_decay`.
        weight_decay: as in `adamw`.
        layer_decay: as in `layerwise`; 1 for one rate.
        accumulate: as in `adamw`.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.training import default_optimizer
        >>> optimizer = default_optimizer(build_model("albert_tiny_zh"), steps=1000)
        >>> optimizer.weight_decay, float(optimizer.learning_rate)  # the rate rises from 0
        (0.01, 0.0)
    """
    is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    if is_schedule and layer_decay != 1:
        raise ConfigError("layer_decay needs learning_rate as a number; for a schedule of your own use `layerwise`.")
    rate = default_learning_rate(trunk.config) if learning_rate is None else learning_rate

    def make(factor: float) -> keras.optimizers.Optimizer:
        if is_schedule or steps is None:
            return adamw(rate if is_schedule else rate * factor, weight_decay, accumulate=accumulate)
        schedule = warmup_linear_decay(rate * factor, steps, warmup)
        return adamw(schedule, weight_decay, accumulate=accumulate)

    return make(1.0) if layer_decay == 1 else layerwise(trunk, make, layer_decay)
