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


def value_and_gradients(function, arrays):
    """Return function(*arrays), a scalar, and its gradient with respect to each array."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors)
    elif keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(jax.value_and_grad(function, argnums=range(len(arrays))))
        value, gradients = compiled(*map(jax.numpy.asarray, arrays))
    else:
        import torch

        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        value = function(*tensors)
        gradients = torch.autograd.grad(value, tensors)
    return to_numpy(value), [to_numpy(gradient) for gradient in gradients]
