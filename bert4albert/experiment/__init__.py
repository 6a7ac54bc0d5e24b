"""Compare points between shared and unshared on a task of your own.

Names are imported when they are first used, so that a new process can take its share of the cores before a Keras
backend counts them.
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.experiment.comparison import compare
    from bert4albert.experiment.report import Report

_HOME = {"compare": "comparison", "Report": "report"}

__all__ = ["Report", "compare"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
