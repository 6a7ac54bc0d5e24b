"""Tasks: a head on the trunk, with its loss, its metric, and answers to raw text.

Names are imported when they are first used, so that importing this package loads no Keras backend.
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.tasks.classification import TextClassifier
    from bert4albert.tasks.embedding import TextEmbedder, cosine_similarity
    from bert4albert.tasks.fill_mask import FillMask
    from bert4albert.tasks.pooled import pooled_output
    from bert4albert.tasks.reading_comprehension import ReadingComprehension
    from bert4albert.tasks.relations import RelationExtractor
    from bert4albert.tasks.saved import load_task
    from bert4albert.tasks.seq2seq import Seq2Seq
    from bert4albert.tasks.tagging import Tagger
    from bert4albert.tasks.task import Task

_HOME = {
    "Task": "task",
    "load_task": "saved",
    "TextClassifier": "classification",
    "TextEmbedder": "embedding",
    "cosine_similarity": "embedding",
    "FillMask": "fill_mask",
    "pooled_output": "pooled",
    "RelationExtractor": "relations",
    "ReadingComprehension": "reading_comprehension",
    "Seq2Seq": "seq2seq",
    "Tagger": "tagging",
}

__all__ = [
    "FillMask",
    "ReadingComprehension",
    "RelationExtractor",
    "Seq2Seq",
    "Tagger",
    "Task",
    "TextClassifier",
    "TextEmbedder",
    "cosine_similarity",
    "load_task",
    "pooled_output",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
