"""Pretrained ALBERT and BERT in Keras 3, with ALBERT's weight sharing as one argument.

Names are imported when they are first used, so that `import bert4albert` loads no Keras backend.
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.build import build_model
    from bert4albert.compression import compress_depths
    from bert4albert.config import ModelConfig
    from bert4albert.depth_drift import drift
    from bert4albert.errors import (
        Bert4AlbertError,
        CheckpointError,
        ConfigError,
        DataError,
        ExportError,
        TokenizerError,
        TrainingError,
    )
    from bert4albert.model import Trunk, trunk_of
    from bert4albert.resharing import merge_depths, reshare, suggest_sharing
    from bert4albert.save import save_google_checkpoint, save_hf
    from bert4albert.sharing_costs import describe_sharing
    from bert4albert.text import Tokenizer

__version__ = "0.1.0"

_HOME = {
    "build_model": "build",
    "compress_depths": "compression",
    "drift": "depth_drift",
    "merge_depths": "resharing",
    "reshare": "resharing",
    "suggest_sharing": "resharing",
    "describe_sharing": "sharing_costs",
    "save_google_checkpoint": "save",
    "save_hf": "save",
    "ModelConfig": "config",
    "Bert4AlbertError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "ExportError": "errors",
    "TokenizerError": "errors",
    "TrainingError": "errors",
    "Trunk": "model",
    "trunk_of": "model",
    "Tokenizer": "text",
}

__all__ = [  # noqa: RUF022
    "build_model",
    "merge_depths",
    "compress_depths",
    "suggest_sharing",
    "reshare",
    "drift",
    "describe_sharing",
    "save_google_checkpoint",
    "save_hf",
    "Tokenizer",
    "trunk_of",
    "Trunk",
    "ModelConfig",
    "Bert4AlbertError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "TokenizerError",
    "TrainingError",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
