"""Tasks: a head on the trunk, with its loss, its metric, and answers to raw text.

Names are imported when they are first used, so that importing this package loads no Keras backend.
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.tasks.classification import TextClassifier, pooled_output
    from bert4albert.tasks.reading_comprehension import ReadingComprehension
    from bert4albert.tasks.relations import RelationExtractor
    from bert4albert.tasks.seq2seq import Seq2Seq
    from bert4albert.tasks.tagging import Tagger
    from bert4albert.tasks.task import Task, load_task

_HOME = {
    "Task": "task",
    "load_task": "task",
    "TextClassifier": "classification",
    "pooled_output": "classification",
    "RelationExtractor": "relations",
    "ReadingComprehension": "reading_comprehension",
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
