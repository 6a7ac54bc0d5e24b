"""Training recipes: schedules, optimizers and what wraps them, adversarial training, evaluation after each epoch.

All of them also work with the plain `compile` and `fit` of Keras. Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.backend import seeded_dropout
    from bert4albert.training.adversarial import adversarial_model
    from bert4albert.training.evaluator import Evaluator
    from bert4albert.training.finite import FiniteNumbers, usable_afterwards
    from bert4albert.training.gradual_unsharing import GradualUnsharing
    from bert4albert.training.moving_average import MovingAverage
    from bert4albert.training.optimizers import adamw, default_optimizer, layerwise
    from bert4albert.training.run_state import RunState
    from bert4albert.training.schedules import PiecewiseLinear, piecewise_linear, warmup_linear_decay
    from bert4albert.training.sharing_decay import SharingDecay

_HOME = {
    "Evaluator": "evaluator",
    "FiniteNumbers": "finite",
    "GradualUnsharing": "gradual_unsharing",
    "MovingAverage": "moving_average",
    "PiecewiseLinear": "schedules",
    "RunState": "run_state",
    "SharingDecay": "sharing_decay",
    "adamw": "optimizers",
    "adversarial_model": "adversarial",
    "default_optimizer": "optimizers",
    "layerwise": "optimizers",
    "piecewise_linear": "schedules",
    "seeded_dropout": ".backend",
    "usable_afterwards": "finite",
    "warmup_linear_decay": "schedules",
}

__all__ = [
    "Evaluator",
    "FiniteNumbers",
    "GradualUnsharing",
    "MovingAverage",
    "PiecewiseLinear",
    "RunState",
    "SharingDecay",
    "adamw",
    "adversarial_model",
    "default_optimizer",
    "layerwise",
    "piecewise_linear",
    "seeded_dropout",
    "usable_afterwards",
    "warmup_linear_decay",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
