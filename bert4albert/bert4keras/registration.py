"""What the layers of this folder share: how Keras' files name them, and that they hand masks on."""

import functools
from typing import Any

import keras

from bert4albert import backend

# Apart from the library's own layers, some of which share names.
register = functools.partial(backend.register, package="bert4albert.bert4keras")


class Layer(keras.layers.Layer):
    """bert4keras' base of layers, also of those that scripts define: it hands the implicit mask of its input on."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
