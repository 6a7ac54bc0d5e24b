"""The optimizers that BERT and ALBERT were pretrained with."""

from __future__ import annotations

import keras

from bert4albert.pretraining.recipe import Recipe
from bert4albert.training.optimizers import NOT_DECAYED
from bert4albert.training.schedules import warmup_linear_decay

_CLASSES = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Return the recipe's optimizer: warm-up and linear decay, no weight decay on biases and norms.

    Epsilon is 1e-6 for both kinds, as in Google's programs (arXiv:1810.04805; LAMB: arXiv:1904.00962).
    """
    optimizer = _CLASSES[recipe.optimizer](
        # Keras asks a schedule once a batch, also where several make one update.
        warmup_linear_decay(recipe.learning_rate, recipe.steps * recipe.accumulate, recipe.warmup),
        weight_decay=recipe.weight_decay,
        epsilon=1e-6,
        global_clipnorm=recipe.clip_norm,
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=[*NOT_DECAYED])
    return optimizer
