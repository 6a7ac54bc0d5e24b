"""Names of people, places and organisations by a CRF, written as for bert4keras.

python examples/bert4keras/sequence_labeling.py
"""

import itertools

import keras
import numpy as np
from keras.layers import Dense
from keras.models import Model

from bert4albert.bert4keras.backend import K, set_gelu
from bert4albert.bert4keras.layers import ConditionalRandomField
from bert4albert.bert4keras.models import build_transformer_model
from bert4albert.bert4keras.optimizers import Adam
from bert4albert.bert4keras.snippets import DataGenerator, ViterbiDecoder, sequence_padding, to_array
from bert4albert.bert4keras.tokenizers import Tokenizer
from bert4albert.finding import model_folder

set_gelu("tanh")

maxlen = 48
batch_size = 8
epochs = 3
learning_rate = 2e-4
crf_lr_multiplier = 100  # the transitions start from nothing, and have to keep up

folder = model_folder("albert_tiny_zh")
categories = ["人", "地", "机构"]

keras.utils.set_random_seed(2)
tokenizer = Tokenizer(str(folder / "vocab.txt"), do_lower_case=True)

people = ["王芳", "李建国", "张小雨", "陈立", "赵明远", "孙晓梅", "周杰", "吴志强"]
places = ["北京", "成都", "青岛", "昆明", "西安", "哈尔滨"]
organisations = ["人民医院", "华新公司", "师范大学", "铁路局", "科学院"]
patterns = [
    "{人}昨天从{地}出发。",
    "{机构}的{人}在{地}作了报告。",
    "{地}的天气很好，{人}和朋友去爬山。",
    "据{机构}介绍，新的办公楼建在{地}。",
    "{人}毕业以后进了{机构}工作。",
    "大家都说{地}的小吃最有名。",
]


def label(pattern, names):
    """Return [text, (start, end, category), ...], both ends included."""
    text, spans = "", []
    for piece in pattern.replace("{", "|{").replace("}", "}|").split("|"):
        if piece[:1] == "{":
            category = piece[1:-1]
            spans.append((len(text), len(text) + len(names[category]) - 1, category))
            piece = names[category]
        text += piece
    return [text, *spans]


every = [
    label(pattern, {"人": person, "地": place, "机构": organisation})
    for pattern, person, place, organisation in itertools.product(patterns, people, places, organisations)
]
chosen = np.random.permutation(len(every))
train_data, valid_data = ([every[i] for i in part] for part in (chosen[:240], chosen[240:280]))


class data_generator(DataGenerator):  # noqa: N801  (as scripts for bert4keras name it)
    """Batches of ([token ids, segment ids], labels): 0 outside, then first and further tokens of each category."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, example in self.sample(random):
            tokens = tokenizer.tokenize(example[0], maxlen=maxlen)
            mapping = tokenizer.rematch(example[0], tokens)
            start_of = {characters[0]: i for i, characters in enumerate(mapping) if characters}
            end_of = {characters[-1]: i for i, characters in enumerate(mapping) if characters}
            labels = np.zeros(len(tokens))
            for start, end, category in example[1:]:
                if start in start_of and end in end_of:
                    labels[start_of[start]] = categories.index(category) * 2 + 1
                    labels[start_of[start] + 1 : end_of[end] + 1] = categories.index(category) * 2 + 2
            token_ids = tokenizer.tokens_to_ids(tokens)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append([0] * len(token_ids))
            batch_labels.append(labels)
            if len(batch_token_ids) == self.batch_size or is_end:
                yield (
                    [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)],
                    sequence_padding(batch_labels),
                )
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


model = build_transformer_model(str(folder / "config.json"), str(folder / "model.safetensors"), model="albert_unshared")
output = Dense(len(categories) * 2 + 1)(model.output)
CRF = ConditionalRandomField(lr_multiplier=crf_lr_multiplier)
output = CRF(output)
model = Model(model.input, output)
model.compile(loss=CRF.sparse_loss, optimizer=Adam(learning_rate), metrics=[CRF.sparse_accuracy])


class NamedEntityRecognizer(ViterbiDecoder):
    """Finds the names in a text."""

    def recognize(self, text):
        """Return [(start, end, category), ...]."""
        tokens = tokenizer.tokenize(text, maxlen=512)
        mapping = tokenizer.rematch(text, tokens)
        token_ids = tokenizer.tokens_to_ids(tokens)
        token_ids, segment_ids = to_array([token_ids], [[0] * len(token_ids)])
        entities = []
        for i, tag in enumerate(self.decode(model.predict([token_ids, segment_ids])[0])):
            if tag % 2 == 1:
                entities.append([i, i, categories[(tag - 1) // 2]])
            elif tag > 0 and entities and entities[-1][1] == i - 1:
                entities[-1][1] = i
        return [(mapping[start][0], mapping[end][-1], category) for start, end, category in entities]


NER = NamedEntityRecognizer(trans=K.eval(CRF.trans), starts=[0], ends=[0])


class Evaluator(keras.callbacks.Callback):
    """Says after each epoch how many names are found."""

    def on_epoch_end(self, epoch, logs=None):
        """Evaluate."""
        NER.trans = K.eval(CRF.trans)
        found, wanted, both = 1e-10, 1e-10, 1e-10
        for example in valid_data:
            answer, truth = set(NER.recognize(example[0])), set(example[1:])
            found, wanted, both = found + len(answer), wanted + len(truth), both + len(answer & truth)
        print(f"valid f1: {2 * both / (found + wanted):.5f}")


if __name__ == "__main__":
    train_generator = data_generator(train_data, batch_size)
    model.fit(
        train_generator.forfit(),
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        callbacks=[Evaluator()],
    )
    text = "科学院的陈立下周去青岛开会。"
    print(text, [(text[start : end + 1], category) for start, end, category in NER.recognize(text)])
