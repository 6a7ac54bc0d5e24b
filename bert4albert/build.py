"""build_model: a config, a checkpoint and one word about sharing become a Keras model."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from bert4albert.checkpoint.card import read_card
from bert4albert.checkpoint.load import LoadPlan
from bert4albert.checkpoint.resolve import open_source, resolve
from bert4albert.config import known_keys
from bert4albert.errors import ConfigError, did_you_mean
from bert4albert.files import reading
from bert4albert.layers.base import weights_follow
from bert4albert.model import Trunk


def build_model(
    config: str | os.PathLike[str] | Mapping[str, Any],
    checkpoint: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    model: str | None = None,
    *,
    application: str = "encoder",
    with_pool: bool | str = False,
    with_nsp: bool = False,
    with_mlm: bool | str = False,
    masked_positions: bool = False,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Any] | None = None,
    hierarchical_position: bool | float = False,
    custom_position_ids: bool = False,
    dropout_rate: float | None = None,
    sharing: str | Sequence[int] | Mapping[str, Any] | None = None,
    depth_lora: int | Mapping[str, Any] | bool | None = None,
    depth_bias: bool | None = None,
    strict: bool = True,
    prefix: str = "",
    ignore: Sequence[str] = (),
    fresh_heads: bool = False,
    remat: bool | None = None,
    dtype: Any = None,
    name: str | None = None,
    **overrides: Any,
) -> Trunk:
    """Build an ALBERT or BERT and load its weights.

    Arguments:
        config: path of the model's JSON config, or a dict; or a folder with config and checkpoint, or the
            name of a model that comes with the package, whose weights are then loaded.
        checkpoint: the weights: a safetensors or PyTorch `.bin` file, the index of a sharded one, the prefix
            of a TensorFlow checkpoint, an `.npz` file, a folder with one of these, the name of a model that comes
            with the package, or a dict of named arrays, in the names of Google, early albert_zh, Hugging Face or
            this package; None for random weights.
        model: 'albert' (blocks shared as in the config), 'albert_unshared' (a block for each depth, all
            starting from the checkpoint's), 'bert'; None: what the checkpoint's names, else the config, say.
        application: 'encoder', 'lm' (each position sees those before it) or 'unilm' (segment 1 sees those
            before it, segment 0 sees all of itself); the last two imply the masked-LM head.
        with_pool: add the pooler; True for tanh, or an activation's name.
        with_nsp: add the sentence-order (ALBERT) or next-sentence (BERT) head, on the pooler.
        with_mlm: add the masked-LM head; True for softmax, or an activation's name such as 'linear'.
        masked_positions: add an input [batch, count]; the masked-LM head then computes only these positions.
        keep_tokens: old ids of the words to keep, in their new order.
        compound_tokens: words to append, each a list of new ids (or a pair ids, weights) to average.
        hierarchical_position: True (alpha 0.4) or alpha: cover positions**2 positions.
        custom_position_ids: add an input [batch, length] of position ids.
        dropout_rate: dropout after embeddings and layers, in place of the config's; `attention_dropout_rate`
            replaces the one on attention weights.
        sharing: how much of the sharing to keep: 'shared' (the checkpoint's own), 'unshared', 'groups:K', 'cycle:K',
            'cycle_rev:K', 'sandwich', 'middle_cycle:K', a list with the block used at each depth, or a dictionary of
            one of these for some of the parts 'attention', 'feed_forward', 'norm' (or 'attention_norm',
            'output_norm'); see `sharing.parse_schedule`.
        depth_lora: a rank, or a dictionary of 'rank', 'parts' and 'alpha': each depth adds a low-rank update of its
            own, nothing at first, to the kernels that it uses (arXiv:2410.20672). False for none where the config has
            one.
        depth_bias: each depth adds an offset of its own, zero at first, to the biases and norms that it uses.
        strict: raise for anything missing, unexpected or mis-shaped; False leaves it in `load_report`.
        prefix: what to take off the names of the checkpoint's tensors that have it, such as 'model.'.
        ignore: shell patterns for tensors of the checkpoint to pass over, by their whole names, such as
            ('crf.*', 'classifier.*'); each must match one, and none that the model needs.
        fresh_heads: let heads that the checkpoint lacks start at random.
        remat: keep no activations inside the blocks for the backward pass, but compute them again: less memory,
            more time in training.
        dtype: a dtype policy such as 'mixed_bfloat16'; None for Keras' global one.
        name: the model's name.
        overrides: config keys to replace, such as `num_hidden_layers=4` or `hidden_act='gelu_erf'`.

    Returns:
        A functional `keras.Model` on `[token_ids, segment_ids]` (and the inputs asked for), whose output is
        the sequence [batch, length, hidden_size], the head asked for, or `[pool or nsp, mlm]`. `load_report`
        says where each weight came from, `card` what its makers recommend. Raises `ConfigError` or `CheckpointError`.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert import build_model
        >>> shared = build_model("albert_tiny_zh")
        >>> unshared = build_model("albert_tiny_zh", model="albert_unshared")
        >>> print(shared.config.sharing)
        4 block applications share 1 block
        >>> print(unshared.config.sharing)
        4 block applications, each with a block of its own

        Both start as the same function, and so does everything between them:

        >>> token_ids = np.array([[2, 100, 101, 3]])
        >>> inputs = [token_ids, np.zeros_like(token_ids)]
        >>> before, after = (keras.ops.convert_to_numpy(model(inputs)) for model in (shared, unshared))
        >>> before.shape, bool(np.allclose(before, after, atol=1e-5))
        ((1, 4, 312), True)
    """
    _refuse_unknown(overrides)
    settings = {
        "application": application,
        "with_pool": with_pool,
        "with_nsp": with_nsp,
        "with_mlm": with_mlm,
        "masked_positions": masked_positions,
        "hierarchical_position": hierarchical_position or None,
        "custom_position_ids": custom_position_ids,
        "hidden_dropout_prob": dropout_rate,
        "depth_lora": depth_lora,
        "depth_bias": depth_bias,
        "remat": remat,
    }
    with reading(config, checkpoint):
        model_config, plan = resolve(
            open_source(config, checkpoint, prefix, ignore),
            model,
            sharing,
            keep_tokens,
            compound_tokens,
            fresh_heads,
            **{**settings, **overrides},
        )
        if plan is not None:
            if strict:
                plan.check()
            plan.check_equal()
        with weights_follow(plan is not None and plan.fills_everything):
            trunk = Trunk(model_config, dtype=dtype, name=name)
        if plan is not None:
            fill(trunk, plan)
            trunk.card = read_card(config if checkpoint is None else checkpoint)
    return trunk


def fill(trunk: Trunk, plan: LoadPlan) -> None:
    """Assign to each weight the tensor that fills it."""
    variables = dict(trunk.named_weights())
    for weights, array in plan.arrays():
        tensor = keras.ops.convert_to_tensor(array)
        for weight in weights:
            # A buffer of its own for each variable: on JAX, training gives its variables' buffers away.
            variables[weight].assign(keras.ops.copy(tensor))
        del array, tensor  # before the next one is read
    trunk.load_report = plan.report


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    arguments = [p for p in inspect.signature(build_model).parameters if p != "overrides"]
    for key in overrides:
        if key not in known_keys():
            hint = did_you_mean(key, [*arguments, *known_keys()])
            raise ConfigError(f"build_model has no argument {key!r} and configs have no such key.{hint}")
