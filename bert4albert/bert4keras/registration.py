"""How the layers of this folder are named in Keras' files: apart from the library's own, some of which share names."""

import functools

from bert4albert import backend

register = functools.partial(backend.register, package="bert4albert.bert4keras")
