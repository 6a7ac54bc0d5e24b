"""Gradients of a loss with respect to a model's weights, on whichever backend runs."""

import keras
import numpy as np


def to_numpy(tensor):
    """Return a tensor of any backend as an array."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def gradients_of(model, inputs, loss):
    """Return canonical weight name -> d loss(model(inputs)) / d weight."""
    names = {id(weight): name for name, weight in model.named_weights()}
    variables = model.trainable_variables
    values = _BACKENDS[keras.backend.backend()](model, inputs, loss, variables)
    return {names[id(v)]: np.asarray(g) for v, g in zip(variables, values, strict=True)}


def _tensorflow(model, inputs, loss, variables):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = loss(model(inputs))
    return [tf.convert_to_tensor(g).numpy() for g in tape.gradient(value, [v.value for v in variables])]


def _jax(model, inputs, loss, variables):
    import jax

    def value(weights):
        outputs, _ = model.stateless_call(weights, [v.value for v in model.non_trainable_variables], inputs)
        return loss(outputs)

    return jax.grad(value)([v.value for v in variables])


def _torch(model, inputs, loss, variables):
    model.zero_grad()
    loss(model(inputs)).backward()
    return [v.value.grad.detach().numpy().copy() for v in variables]


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
