"""An ONNX model whose weights are whole numbers of 8 bits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from bert4albert.errors import ExportError


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with int8 weights, one scale a column, and activations quantised as they come.

    Arguments:
        model: in float32; a weight used at several depths stays one weight.

    Returns:
        The quantised model. Raises `ExportError` where onnxruntime is not installed.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise ExportError("onnxruntime is not installed: pip install 'bert4albert[serving]'.") from None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        quantize_dynamic(model, target, per_channel=True, weight_type=QuantType.QInt8)
        return onnx.load_model(target)
