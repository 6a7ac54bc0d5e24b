"""The numbers of a pretraining run."""

from __future__ import annotations

from dataclasses import dataclass

from bert4albert.errors import ConfigError

OPTIMIZERS = ("adamw", "lamb")
DTYPES = ("float32", "mixed_bfloat16")
WORD_EMBEDDINGS = ("random", "counted")
CHOICES = {"optimizer": OPTIMIZERS, "dtype": DTYPES, "word_embeddings": WORD_EMBEDDINGS}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides corpus, vocabulary and config.

    Attributes:
        length: tokens in a row.
        batch_size: rows in a batch.
        accumulate: batches in a step, whose gradients are averaged.
        steps: optimizer updates; the only entry that may change when a run is continued.
        learning_rate: the peak rate.
        warmup: the share of `steps` in which the rate rises.
        optimizer: 'adamw' or 'lamb'.
        weight_decay: decay a step, times the learning rate; none on biases and norms.
        clip_norm: the largest norm of all gradients together.
        short_rate: as in `Examples`.
        masked_rate: as in `Examples`.
        dtype: 'float32', or 'mixed_bfloat16' to compute in half precision.
        remat: keep no activations inside the blocks, but compute them twice: less memory, more time.
        word_embeddings: how they begin: 'random', or 'counted': from the words' neighbours in the corpus, with the
            words' frequencies as the bias of the masked-LM head, which a short run would spend much of itself on.
        passages: passages of the teacher in a batch, beside the rows; without a teacher it says nothing.
        vector_weight: how much the teacher counts in the loss.
        temperature: of the similarities within a batch, as in `Pretraining`.
        seed: decides initial weights, order of the data, and masks.

    Examples:
        >>> from bert4albert.pretraining import Recipe
        >>> recipe = Recipe(steps=100, optimizer="lamb", accumulate=4)
        >>> recipe.length, recipe.batch_size
        (128, 32)
    """

    length: int = 128
    batch_size: int = 32
    accumulate: int = 1
    steps: int = 10_000
    learning_rate: float = 1e-3
    warmup: float = 0.05
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    short_rate: float = 0.1
    masked_rate: float = 0.15
    dtype: str = "float32"
    remat: bool = False
    word_embeddings: str = "random"
    passages: int = 64
    vector_weight: float = 1.0
    temperature: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        least_of = {"length": 5, "batch_size": 1, "accumulate": 1, "steps": 1, "passages": 2, "seed": 0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}.")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, not {self.temperature!r}: cosines are divided by it.")
