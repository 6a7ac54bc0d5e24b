"""Adversarial training by the fast gradient method on the word embeddings, for each backend of Keras."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.errors import ConfigError


def adversarial_model(model: keras.Model, table: Any, epsilon: float) -> keras.Model:
    """Return a model on the same layers that trains on adversarial word embeddings.

    Each step first takes the gradient g of the loss by the table of word embeddings, then trains with the loss at
    table + epsilon * g / |g| in place of the loss at table. The table itself stays as it is. Twice the work a step.
    Source: arXiv:1605.07725; bert4keras' `adversarial_training`, of which this is the exact rule.

    Arguments:
        model: a functional model.
        table: its variable [vocab_size, embedding_size] of word embeddings.
        epsilon: the norm of the perturbation of the whole table.

    Returns:
        A model to compile and fit in place of `model`. Raises `ConfigError` if the table is not trained.

    Examples:
        >>> import keras
        >>> from bert4albert import build_model
        >>> from bert4albert.training import adversarial_model
        >>> trunk = build_model("albert_tiny_zh")
        >>> model = keras.Model(trunk.inputs, keras.layers.Dense(2)(trunk.output[:, 0]))
        >>> trained = adversarial_model(model, trunk.embeddings.word.embeddings, epsilon=0.5)
        >>> trained.layers[-1] is model.layers[-1]
        True
    """
    if epsilon <= 0:
        raise ConfigError(f"The size of the adversarial step must be above 0; {epsilon!r} was given.")
    if not any(table is weight for weight in model.trainable_variables):
        raise ConfigError("Adversarial training needs word embeddings that are trained; these are frozen.")
    make = {"tensorflow": _tensorflow_model, "jax": _jax_model, "torch": _torch_model}[keras.backend.backend()]
    return make(table, epsilon)(model.input, model.output)


def _perturbation(gradient: Any, epsilon: float) -> Any:
    return epsilon * gradient / (ops.sqrt(ops.sum(ops.square(gradient))) + 1e-8)


def _log_loss(model: keras.Model, loss: Any, inputs: Any) -> None:
    rows = ops.shape(keras.tree.flatten(inputs)[0])[0]
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(loss, sample_weight=rows)


def _tensorflow_model(table: Any, epsilon: float) -> type[keras.Model]:
    import tensorflow as tf

    class AdversarialModel(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            clean = tf.identity(table.value)
            _, _, (gradient,) = self._gradients(x, y, sample_weight, [table])
            # A lookup gives its gradient as the rows it read.
            table.assign(clean + _perturbation(tf.convert_to_tensor(gradient), epsilon))
            weights = self.trainable_variables
            predicted, loss, gradients = self._gradients(x, y, sample_weight, weights)
            table.assign(clean)
            self.optimizer.apply(gradients, weights)
            _log_loss(self, loss, x)
            return self.compute_metrics(x, y, predicted, sample_weight)

        def _gradients(self, x: Any, y: Any, sample_weight: Any, variables: list[Any]) -> Any:
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = self.compute_loss(x, y, predicted, sample_weight, training=True)
                scaled = self.optimizer.scale_loss(loss)
            return predicted, loss, tape.gradient(scaled, [variable.value for variable in variables])

    return AdversarialModel


def _torch_model(table: Any, epsilon: float) -> type[keras.Model]:
    import torch

    class AdversarialModel(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            clean = table.value.detach().clone()
            _, _, (gradient,) = self._gradients(x, y, sample_weight, [table])
            with torch.no_grad():
                table.assign(clean + _perturbation(gradient, epsilon))
            weights = self.trainable_variables
            predicted, loss, gradients = self._gradients(x, y, sample_weight, weights)
            with torch.no_grad():
                table.assign(clean)
                self.optimizer.apply(gradients, weights)
            _log_loss(self, loss, x)
            return self.compute_metrics(x, y, predicted, sample_weight)

        def _gradients(self, x: Any, y: Any, sample_weight: Any, variables: list[Any]) -> Any:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted, sample_weight, training=True)
            values = [variable.value for variable in variables]
            scaled = self.optimizer.scale_loss(loss)
            return predicted, loss, torch.autograd.grad(scaled, values, allow_unused=True)

    return AdversarialModel


def _jax_model(table: Any, epsilon: float) -> type[keras.Model]:
    import jax

    class AdversarialModel(keras.Model):
        def compute_loss_and_updates(
            self, trainable_variables: Any, *args: Any, training: bool = False, **kwargs: Any
        ) -> Any:
            compute = super().compute_loss_and_updates
            if not training:
                return compute(trainable_variables, *args, training=training, **kwargs)
            index = next(i for i, weight in enumerate(self.trainable_variables) if weight is table)

            def moved(table_value: Any) -> Any:
                return [*trainable_variables[:index], table_value, *trainable_variables[index + 1 :]]

            def loss_at(table_value: Any) -> Any:
                return compute(moved(table_value), *args, training=True, **kwargs)[0]

            clean = trainable_variables[index]
            # A constant to the gradient that Keras takes of this function, which so is that at the moved table.
            step = jax.lax.stop_gradient(_perturbation(jax.grad(loss_at)(clean), epsilon))
            return compute(moved(clean + step), *args, training=True, **kwargs)

    return AdversarialModel
