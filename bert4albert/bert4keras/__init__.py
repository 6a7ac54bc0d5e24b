"""The spellings of bert4keras, so that a script written for it runs by changing its imports.

`from bert4keras.models import ...` becomes `from bert4albert.bert4keras.models import ...`; likewise `backend`,
`layers`, `optimizers`, `snippets` and `tokenizers`. They are made of what the rest of the package has, which new
programs use. Importing any of them teaches Keras 3 the names of Keras 2 that such scripts use: see `keras2`.
"""

from bert4albert.bert4keras import keras2

keras2.install()
