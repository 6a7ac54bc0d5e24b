"""Answers to questions, written token by token from several passages at once; written as for bert4keras.

python examples/bert4keras/reading_comprehension.py
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
from bert4albert.bert4keras.tokenizers import Tokenizer
from bert4albert.finding import model_folder

set_gelu("tanh")

max_p_len, max_q_len, max_a_len = 32, 16, 8
batch_size = 8
epochs = 10

folder = model_folder("albert_tiny_zh")

keras.utils.set_random_seed(5)
tokenizer = Tokenizer(str(folder / "vocab.txt"), do_lower_case=True)

people = ["王芳", "李建国", "张小雨", "陈立", "赵明远"]
places = ["北京", "成都", "青岛", "昆明", "西安", "大连"]
things = ["图书", "茶叶", "水果", "手机"]
elsewhere = ["这里没有提到相关的内容。", "天气预报说明天有小雨。", "会议在下午三点结束。"]
every = []
for i, (person, place, thing) in enumerate(itertools.product(people, places, things)):
    passage = f"{person}去年在{place}开了一家店，卖{thing}。"
    asked = [(f"{person}在哪里开店？", place), (f"{person}的店卖什么？", thing), (f"谁在{place}开店？", person)]
    question, answer = asked[i % 3]
    every.append({"question": question, "answer": answer, "passages": [passage, elsewhere[i % len(elsewhere)]]})
chosen = np.random.permutation(len(every))
train_data, valid_data = ([every[i] for i in part] for part in (chosen[:104], chosen[104:112]))


class data_generator(DataGenerator):  # noqa: N801  (as scripts for bert4keras name it)
    """Batches of [token ids, segment ids] of passage and question (segment 0) and answer (1), and no labels."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids = [], []
        for is_end, d in self.sample(random):
            # A passage without the answer has nothing to say: its answer ends at once.
            which = np.random.randint(len(d["passages"]))
            answer = d["answer"] if d["answer"] in d["passages"][which] else ""
            before, segments = passage_and_question(d["passages"][which], d["question"])
            after = tokenizer.encode(answer, maxlen=max_a_len + 1)[0][1:]
            batch_token_ids.append(before + after)
            batch_segment_ids.append(segments + [1] * len(after))
            if len(batch_token_ids) == self.batch_size or is_end:
                yield [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)], None
                batch_token_ids, batch_segment_ids = [], []


def passage_and_question(passage, question):
    """Return token ids and segment ids of what comes before an answer."""
    token_ids = tokenizer.encode(passage, maxlen=max_p_len)[0] + tokenizer.encode(question, maxlen=max_q_len)[0][1:]
    return token_ids, [0] * len(token_ids)


class CrossEntropy(Loss):
    """The cross-entropy of the answer's tokens."""

    def compute_loss(self, inputs, mask=None):
        """Return the mean over the tokens of answers."""
        y_true, y_mask, y_pred = inputs
        y_true, y_mask, y_pred = y_true[:, 1:], y_mask[:, 1:], y_pred[:, :-1]
        loss = K.sparse_categorical_crossentropy(y_true, y_pred)
        return K.sum(loss * y_mask) / K.sum(y_mask)


model = build_transformer_model(
    str(folder / "config.json"), str(folder / "model.safetensors"), model="albert_unshared", application="unilm"
)
output = CrossEntropy(2)([*model.inputs, *model.outputs])
train_model = Model(model.inputs, output)
train_model.compile(optimizer=Adam(5e-4))


class ReadingComprehension(AutoRegressiveDecoder):
    """Writes one answer from all passages: each says what may come next, those that say nothing are left out."""

    @AutoRegressiveDecoder.wraps(default_rtype="probas", use_states=True)
    def predict(self, inputs, output_ids, states):
        """Return the probabilities of the next token of each beam."""
        passages = inputs[0][0]  # every beam has the same ones, filled up with -1
        probas = {}
        for i in range(len(passages)) if states is None else states:
            before = passages[i][passages[i] >= 0]
            token_ids = np.array([np.concatenate([before, ids]) for ids in output_ids])
            segment_ids = np.zeros_like(token_ids)
            segment_ids[:, len(before) :] = 1
            probas[i] = model.predict([token_ids, segment_ids])[:, -1]
        speaking = probas
        if states is None:
            speaking = {i: p for i, p in probas.items() if p[0].argmax() != self.end_id} or probas
        return np.mean(list(speaking.values()), axis=0), list(speaking)

    def answer(self, question, passages, topk=1):
        """Return an answer; '' if no passage has one."""
        before = [passage_and_question(passage, question)[0] for passage in passages]
        return tokenizer.decode(self.beam_search([sequence_padding(before, value=-1)], topk=topk))


reader = ReadingComprehension(start_id=None, end_id=tokenizer._token_end_id, maxlen=max_a_len)


class Evaluator(keras.callbacks.Callback):
    """Shows answers after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        """Show."""
        for d in valid_data[:2]:
            print(f"{d['question']}  wanted: {d['answer']}  answered: {reader.answer(d['question'], d['passages'])}")


if __name__ == "__main__":
    train_generator = data_generator(train_data, batch_size)
    train_model.fit(
        train_generator.forfit(),
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        callbacks=[Evaluator()],
    )
    right = sum(reader.answer(d["question"], d["passages"]) == d["answer"] for d in valid_data)
    print(f"right answers: {right} of {len(valid_data)}")
