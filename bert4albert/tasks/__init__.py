"""Tasks: a head on the trunk, with its loss, its metric, and answers to raw text.

Names are imported when they are first used, so that importing this package loads no Keras backend.
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.tasks.base import Task, load_task
    from bert4albert.tasks.classification import TextClassifier, pooled_output
    from bert4albert.tasks.relations import RelationExtractor
    from bert4albert.tasks.seq2seq import ReadingComprehension, Seq2Seq
    from bert4albert.tasks.tagging import Tagger

_HOME = {
    "Task": "base",
    "load_task": "base",
    "TextClassifier": "classification",
    "pooled_output": "classification",
    "RelationExtractor": "relations",
    "ReadingComprehension": "seq2seq",
    "Seq2Seq": "seq2seq",
    "Tagger": "tagging",
}

__all__ = [
    "ReadingComprehension",
    "RelationExtractor",
    "Seq2Seq",
    "Tagger",
    "Task",
    "TextClassifier",
    "load_task",
    "pooled_output",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
