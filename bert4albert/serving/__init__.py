"""Answers from an export, without Keras and without TensorFlow; and a server that gives them to others.

from bert4albert.serving import load

classifier = load("exported")
classifier.predict(["便宜，好用", "再也不买了"])
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.serving.exported import load

_HOME = {"load": "exported"}

__all__ = ["load"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
