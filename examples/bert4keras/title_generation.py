"""Titles of short texts by UniLM (arXiv:1905.03197) and a beam search, written as for bert4keras.

python examples/bert4keras/title_generation.py
"""

import itertools

import keras
import numpy as np
from keras.models import Model

from bert4albert.bert4keras.backend import K, set_gelu
from bert4albert.bert4keras.layers import Loss
from bert4albert.bert4keras.models import build_transformer_model
from bert4albert.bert4keras.optimizers import Adam
from bert4albert.bert4keras.snippets import AutoRegressiveDecoder, DataGenerator, sequence_padding
from bert4albert.bert4keras.tokenizers import Tokenizer, load_vocab
from bert4albert.finding import model_folder

set_gelu("tanh")

maxlen = 64
batch_size = 8
epochs = 5

folder = model_folder("albert_tiny_zh")

keras.utils.set_random_seed(4)
# Only the tokens that texts are made of, so that the vocabulary is smaller.
token_dict, keep_tokens = load_vocab(
    dict_path=str(folder / "vocab.txt"), simplified=True, startswith=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
)
tokenizer = Tokenizer(token_dict, do_lower_case=True)

cities = ["北京", "成都", "青岛", "昆明", "西安", "南京"]
events = [
    ("昨天{}下了一天大雨，多条道路积水，市民出行受到影响。", "{}大雨致道路积水"),
    ("记者从{}地铁公司了解到，三号线将于下月一日开通，全程二十站。", "{}地铁三号线下月开通"),
    ("本周末{}举办马拉松比赛，两万名选手参加，部分路段临时封闭。", "{}周末举办马拉松"),
    ("{}今年新建了十二所小学，可以多收六千名学生。", "{}新建十二所小学"),
]
endings = ["", "有关部门提醒大家注意安全。", "更多消息请看本报后续报道。", "许多居民表示欢迎。", "专家对此作了说明。"]
every = [
    (title.format(city), text.format(city) + ending)
    for (text, title), city, ending in itertools.product(events, cities, endings)
]
chosen = np.random.permutation(len(every))
train_data, valid_data = ([every[i] for i in part] for part in (chosen[:104], chosen[104:]))


class data_generator(DataGenerator):  # noqa: N801  (as scripts for bert4keras name it)
    """Batches of [token ids, segment ids] of text and title, and no labels."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids = [], []
        for is_end, (title, content) in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(content, title, maxlen=maxlen)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            if len(batch_token_ids) == self.batch_size or is_end:
                yield [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)], None
                batch_token_ids, batch_segment_ids = [], []


class CrossEntropy(Loss):
    """The cross-entropy of the title's tokens."""

    def compute_loss(self, inputs, mask=None):
        """Return the mean over the tokens of titles."""
        y_true, y_mask, y_pred = inputs
        y_true, y_mask, y_pred = y_true[:, 1:], y_mask[:, 1:], y_pred[:, :-1]
        loss = K.sparse_categorical_crossentropy(y_true, y_pred)
        return K.sum(loss * y_mask) / K.sum(y_mask)


model = build_transformer_model(
    str(folder / "config.json"),
    str(folder / "model.safetensors"),
    model="albert_unshared",
    application="unilm",
    keep_tokens=keep_tokens,
)
output = CrossEntropy(2)([*model.inputs, *model.outputs])
train_model = Model(model.inputs, output)
train_model.compile(optimizer=Adam(6e-4))


class AutoTitle(AutoRegressiveDecoder):
    """Writes the title of a text."""

    @AutoRegressiveDecoder.wraps(default_rtype="probas")
    def predict(self, inputs, output_ids, states):
        """Return the probabilities of the next token of each beam."""
        token_ids, segment_ids = inputs
        token_ids = np.concatenate([token_ids, output_ids], 1)
        segment_ids = np.concatenate([segment_ids, np.ones_like(output_ids)], 1)
        return self.last_token(model).predict([token_ids, segment_ids])

    def generate(self, text, topk=2):
        """Return the title."""
        token_ids, segment_ids = tokenizer.encode(text, maxlen=maxlen - self.maxlen)
        return tokenizer.decode(self.beam_search([token_ids, segment_ids], topk=topk))


autotitle = AutoTitle(start_id=None, end_id=tokenizer._token_end_id, maxlen=16)


class Evaluator(keras.callbacks.Callback):
    """Shows titles after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        """Show."""
        for title, content in valid_data[:2]:
            print(f"wanted: {title}  written: {autotitle.generate(content)}")


if __name__ == "__main__":
    train_generator = data_generator(train_data, batch_size)
    train_model.fit(
        train_generator.forfit(),
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        callbacks=[Evaluator()],
    )
    right = sum(autotitle.generate(content) == title for title, content in valid_data)
    print(f"titles word for word: {right} of {len(valid_data)}")
