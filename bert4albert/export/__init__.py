"""Tasks out into service: as a SavedModel, as ONNX, as LiteRT."""

from bert4albert.export.exporting import FORMATS, export_task

__all__ = ["FORMATS", "export_task"]
