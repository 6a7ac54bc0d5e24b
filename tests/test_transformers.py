"""Exported folders load in Hugging Face transformers, whole, and compute the same. Needs the extra `interop`."""

import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import untidy

from bert4albert import Tokenizer, build_model, save_hf

pytestmark = pytest.mark.once

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="pip install bert4albert[interop]")

HEADS = {"with_pool": True, "with_nsp": True, "with_mlm": "linear"}
SIZES = {
    "vocab_size": 211,
    "hidden_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
}
ALBERT = SIZES | {"embedding_size": 16}
MODELS = {
    "shared": (ALBERT, {}),
    "groups": (ALBERT | {"num_hidden_groups": 3, "hidden_act": "gelu_erf"}, {}),
    "unshared": (ALBERT, {"model": "albert_unshared"}),
    "inner": (ALBERT | {"num_hidden_groups": 2, "inner_group_num": 2}, {}),
    "by_part": (ALBERT, {"sharing": {"attention": "unshared", "norm": "groups:2"}}),
    "what_depths_add": (ALBERT, {"depth_lora": 2, "depth_bias": True}),
    "listed": (ALBERT | {"hidden_act": "relu"}, {"sharing": [0, 1, 0, 2, 2, 1]}),
    "equal sizes": (SIZES | {"num_hidden_groups": 1}, {}),
    "early": (ALBERT | {"projected_words": True}, {}),
    "bert": (SIZES | {"hidden_act": "gelu_erf", "layer_norm_eps": 1e-5}, {}),
}


def their_model(folder, kind):
    family = "Bert" if kind == "bert" else "Albert"
    model, info = getattr(transformers, f"{family}ForPreTraining").from_pretrained(folder, output_loading_info=True)
    return model.eval(), {key: value for key, value in info.items() if value}


@pytest.mark.parametrize("kind", MODELS)
def test_transformers_loads_every_key_and_gives_the_same_logits(tmp_path, batch, kind):
    values, arguments = MODELS[kind]
    ours = untidy(build_model(values, **arguments, **HEADS))
    save_hf(ours, tmp_path)
    theirs, problems = their_model(tmp_path, kind)
    assert not problems

    mask = batch.token_ids != 0
    with torch.no_grad():
        outputs = theirs(
            input_ids=torch.tensor(batch.token_ids).long(),
            token_type_ids=torch.tensor(batch.segment_ids).long(),
            attention_mask=torch.tensor(mask).long(),
        )
    sentence, logits = ours([batch.token_ids, batch.segment_ids])
    assert np.abs(to_numpy(logits) - outputs.prediction_logits.numpy())[mask].max() < 1e-5
    order = outputs.sop_logits if kind != "bert" else outputs.seq_relationship_logits
    assert np.abs(np.log(to_numpy(sentence)) - order.log_softmax(-1).numpy()).max() < 1e-5


def test_a_folder_that_transformers_saved_comes_back_exactly(tmp_path):
    ours = untidy(build_model(ALBERT, model="albert_unshared", **HEADS))
    save_hf(ours, tmp_path / "ours")
    their_model(tmp_path / "ours", "albert")[0].save_pretrained(tmp_path / "theirs")
    again = build_model(tmp_path / "theirs", **HEADS)
    for (name, a), (_, b) in zip(ours.named_weights(), again.named_weights(), strict=True):
        assert (to_numpy(a) == to_numpy(b)).all(), name
    assert again.config.hidden_act == "gelu_tanh"


@pytest.mark.parametrize("vocabulary", ["vocab_zh.txt", "spiece_en.model"])
def test_the_tokenizer_of_the_folder_gives_the_same_ids(shared, tmp_path, vocabulary):
    tokenizer = Tokenizer(shared / "golden" / "tokenization" / vocabulary)
    save_hf(build_model(ALBERT | {"vocab_size": tokenizer.vocab_size}), tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "今天天气不错，Hello World 2024!" if "zh" in vocabulary else "Hello World, it is 2024!"
    assert theirs(text)["input_ids"] == tokenizer.encode(text)[0]
