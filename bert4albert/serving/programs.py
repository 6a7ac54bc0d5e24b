"""Exported programs: from token ids to what the model computes, by onnxruntime or LiteRT."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from bert4albert.errors import ExportError

# From token ids and segment ids, int32 [batch, length], to the model's outputs.
Program = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]

ONNX_FILE, LITERT_FILE = "model.onnx", "model.tflite"


class OnnxProgram:
    """An ONNX model; may be called from several threads at once.

    Arguments:
        path: the file.
        threads: how many threads one call uses; None for as many as there are cores.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise _missing("onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # Lengths change from batch to batch, so that patterns of memory are of no use.
        options.enable_mem_pattern = False
        # Waiting threads that spin take the cores from whoever brings the next texts.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has no class of its own for what cannot be read
            raise _damaged(path, error) from None
        self._inputs = {value.name for value in self._session.get_inputs()}

    def __call__(self, token_ids: np.ndarray, segment_ids: np.ndarray) -> list[np.ndarray]:
        """Return the outputs."""
        given = {"token_ids": token_ids, "segment_ids": segment_ids}
        return list(self._session.run(None, {name: given[name] for name in self._inputs}))


class LiteRTProgram:
    """A LiteRT model; calls from several threads take turns.

    Arguments:
        path: the file.
        threads: how many threads a call uses; None for as many as there are cores.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise _missing("ai-edge-litert") from None
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count())
        except Exception as error:  # it has no class of its own for what cannot be read
            raise _damaged(path, error) from None
        self._run = self._interpreter.get_signature_runner()
        self._inputs = set(self._run.get_input_details())
        self._turn = Lock()

    def __call__(self, token_ids: np.ndarray, segment_ids: np.ndarray) -> list[np.ndarray]:
        """Return the outputs."""
        given = {"token_ids": token_ids, "segment_ids": segment_ids}
        with self._turn:
            outputs = self._run(**{name: given[name] for name in self._inputs})
            # What the interpreter gives may change with the next call.
            return [np.array(outputs[name]) for name in sorted(outputs)]


def open_program(folder: Path, threads: int | None = None) -> Program:
    """Return the program of an export. Raises `ExportError` where there is none that runs without TensorFlow."""
    if (folder / ONNX_FILE).is_file():
        return OnnxProgram(folder / ONNX_FILE, threads)
    if (folder / LITERT_FILE).is_file():
        return LiteRTProgram(folder / LITERT_FILE, threads)
    raise ExportError(
        f"{folder} holds neither {ONNX_FILE} nor {LITERT_FILE}; a SavedModel is for TensorFlow Serving: "
        "for answers without TensorFlow export with format='onnx' or 'litert'."
    )


def outputs_in_order(program: Program, inputs: Any, batch_size: int, pad_id: int = 0) -> list[np.ndarray]:
    """Return what a program computes for each row, run over batches of similar length.

    Arguments:
        program: the program, of which the first output counts.
        inputs: token ids and segment ids, a list of rows each.
        batch_size: the most rows a batch.
        pad_id: what rows of token ids are filled up with.

    Returns:
        For each row its output, as long as its batch was.
    """
    from bert4albert.batches.padding import pad

    token_ids, segment_ids = inputs
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    outputs: list[Any] = [None] * len(order)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        columns = pad([token_ids[row] for row in rows], pad_id), pad([segment_ids[row] for row in rows])
        for row, output in zip(rows, program(*columns)[0], strict=True):
            outputs[row] = output
    return outputs


def _damaged(path: Path, error: Exception) -> ExportError:
    return ExportError(f"{path} cannot be opened ({error!s:.200}): export the task again.")


def _missing(package: str) -> ExportError:
    return ExportError(f"{package} is not installed: pip install 'bert4albert[serving]'.")
