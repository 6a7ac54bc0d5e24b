"""Reading and writing checkpoints: files, name tables, loading with a report, saving."""

from bert4albert.checkpoint.resolve import open_checkpoint

__all__ = ["open_checkpoint"]
