"""The errors that a user's input can raise, under one base class."""


class Bert4AlbertError(Exception):
    """Base class of every error this package raises for a user's input."""


class ConfigError(Bert4AlbertError, ValueError):
    """A model configuration or an argument of `build_model` that cannot be used."""


class CheckpointError(Bert4AlbertError, ValueError):
    """A checkpoint that cannot be read, or that does not fit the model."""


class TokenizerError(Bert4AlbertError, ValueError):
    """A vocabulary that cannot be read, or text that cannot be encoded as asked."""


class DataError(Bert4AlbertError, ValueError):
    """A data file or a set of examples that cannot be used."""
