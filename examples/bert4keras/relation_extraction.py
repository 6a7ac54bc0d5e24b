"""Relations between entities by CasRel (arXiv:1909.03227), written as for bert4keras.

First the subjects are found; then, for one subject, the objects of each relation, by layers that know the subject.

python examples/bert4keras/relation_extraction.py
"""

import itertools

import keras
import numpy as np
from keras.layers import Dense, Input, Lambda, Reshape
from keras.models import Model

from bert4albert.bert4keras.backend import K, batch_gather, set_gelu
from bert4albert.bert4keras.layers import LayerNormalization, Loss
from bert4albert.bert4keras.models import build_transformer_model
from bert4albert.bert4keras.optimizers import Adam, extend_with_exponential_moving_average
from bert4albert.bert4keras.snippets import DataGenerator, sequence_padding, to_array
from bert4albert.bert4keras.tokenizers import Tokenizer
from bert4albert.finding import model_folder

set_gelu("tanh")

maxlen = 48
batch_size = 8
epochs = 3

folder = model_folder("albert_tiny_zh")
predicates = ["作者", "出生地", "创始人", "总部地点"]

keras.utils.set_random_seed(3)
tokenizer = Tokenizer(str(folder / "vocab.txt"), do_lower_case=True)

people = ["王芳", "李建国", "张小雨", "陈立", "赵明远", "孙晓梅"]
places = ["北京", "成都", "青岛", "昆明", "西安"]
books = ["夜行船", "山中来信", "旧城", "北方的河"]
companies = ["华新公司", "远山科技", "明德书店"]
patterns = [
    ("《{书}》的作者是{人}，很多人读过。", [("书", "作者", "人")]),
    ("{人}生于{地}，后来写了《{书}》。", [("人", "出生地", "地"), ("书", "作者", "人")]),
    ("{人}创办了{公司}，总部在{地}。", [("公司", "创始人", "人"), ("公司", "总部地点", "地")]),
    ("{公司}把总部搬到了{地}。", [("公司", "总部地点", "地")]),
]

every = []
for (pattern, relations), person, place, book, company in itertools.product(patterns, people, places, books, companies):
    names = {"人": person, "地": place, "书": book, "公司": company}
    spo_list = [(names[s], p, names[o]) for s, p, o in relations]
    every.append({"text": pattern.format(**names), "spo_list": spo_list})
chosen = np.random.permutation(len(every))
train_data, valid_data = ([every[i] for i in part] for part in (chosen[:200], chosen[200:220]))


def search(pattern, sequence):
    """Return where a list begins in another, or -1."""
    starts = (i for i in range(len(sequence)) if sequence[i : i + len(pattern)] == pattern)
    return next(starts, -1)


class data_generator(DataGenerator):  # noqa: N801  (as scripts for bert4keras name it)
    """Batches of [token ids, segment ids, all subjects, one subject, its objects], and no labels."""

    def __iter__(self, random=False):
        batch = [[] for _ in range(5)]
        for is_end, d in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(d["text"], maxlen=maxlen)
            spoes = {}
            for s, p, o in d["spo_list"]:
                s, o = tokenizer.encode(s)[0][1:-1], tokenizer.encode(o)[0][1:-1]
                s_start, o_start = search(s, token_ids), search(o, token_ids)
                if s_start != -1 and o_start != -1:
                    subject = (s_start, s_start + len(s) - 1)
                    spoes.setdefault(subject, []).append((o_start, o_start + len(o) - 1, predicates.index(p)))
            if spoes:
                subject_labels = np.zeros((len(token_ids), 2))
                for start, end in spoes:
                    subject_labels[start, 0] = subject_labels[end, 1] = 1
                subject_ids = list(spoes)[np.random.randint(len(spoes))]
                object_labels = np.zeros((len(token_ids), len(predicates), 2))
                for start, end, predicate in spoes[subject_ids]:
                    object_labels[start, predicate, 0] = object_labels[end, predicate, 1] = 1
                for part, value in zip(
                    batch, (token_ids, segment_ids, subject_labels, subject_ids, object_labels), strict=True
                ):
                    part.append(value)
            if len(batch[0]) == self.batch_size or is_end:
                yield [sequence_padding(part) for part in batch], None
                batch = [[] for _ in range(5)]


def extract_subject(inputs):
    """Return the vectors of the subject's first and last token, joined."""
    output, subject_ids = inputs
    start, end = batch_gather(output, subject_ids[:, :1]), batch_gather(output, subject_ids[:, 1:])
    return K.concatenate([start, end], 2)[:, 0]


def squared_sigmoid(x):
    """Return a probability that is nearer to 0 at the start, since few tokens begin or end a subject."""
    return K.sigmoid(x) ** 2


bert = build_transformer_model(
    str(folder / "config.json"), str(folder / "model.safetensors"), model="albert_unshared", return_keras_model=False
)
subject_labels = Input(shape=(None, 2), name="Subject-Labels")
subject_ids = Input(shape=(2,), name="Subject-Ids")
object_labels = Input(shape=(None, len(predicates), 2), name="Object-Labels")

subject_preds = Dense(units=2, activation=squared_sigmoid, kernel_initializer=bert.initializer)(bert.model.output)
subject_model = Model(bert.model.inputs, subject_preds)

# Before its last norm, so that a norm of the subject's can take its place.
output = bert.model.layers[-2].get_output_at(-1)
subject = Lambda(extract_subject)([output, subject_ids])
output = LayerNormalization(conditional=True)([output, subject])
output = Dense(units=len(predicates) * 2, activation="sigmoid", kernel_initializer=bert.initializer)(output)
output = Lambda(lambda x: x**4)(output)
object_preds = Reshape((-1, len(predicates), 2))(output)
object_model = Model([*bert.model.inputs, subject_ids], object_preds)


class TotalLoss(Loss):
    """The cross-entropy of subjects, and that of the objects of one subject."""

    def compute_loss(self, inputs, mask=None):
        """Return the mean over the tokens that count."""
        subject_labels, object_labels, subject_preds, object_preds = inputs
        mask = K.cast(mask[2], K.floatx())
        subject_loss = K.mean(K.binary_crossentropy(subject_labels, subject_preds), 2)
        object_loss = K.sum(K.mean(K.binary_crossentropy(object_labels, object_preds), 3), 2)
        return K.sum((subject_loss + object_loss) * mask) / K.sum(mask)


subject_preds, object_preds = TotalLoss([2, 3])([subject_labels, object_labels, subject_preds, object_preds])
train_model = Model(
    [*bert.model.inputs, subject_labels, subject_ids, object_labels],
    [subject_preds, object_preds],
)
AdamEMA = extend_with_exponential_moving_average(Adam, name="AdamEMA")
optimizer = AdamEMA(learning_rate=3e-4, ema_momentum=0.95)
train_model.compile(optimizer=optimizer)


def pairs(starts, ends):
    """Return (start, the nearest end that is not before it) of each start."""
    found = ((start, ends[ends >= start]) for start in starts)
    return [(int(start), int(after[0])) for start, after in found if len(after)]


def extract_spoes(text):
    """Return {(subject, predicate, object), ...} of a text."""
    tokens = tokenizer.tokenize(text, maxlen=maxlen)
    mapping = tokenizer.rematch(text, tokens)
    token_ids, segment_ids = tokenizer.encode(text, maxlen=maxlen)
    token_ids, segment_ids = to_array([token_ids], [segment_ids])

    def words(start, end):
        characters = [i for token in mapping[start : end + 1] for i in token]
        return text[characters[0] : characters[-1] + 1] if characters else ""

    subject_preds = subject_model.predict([token_ids, segment_ids])[0, 1:-1]
    subjects = pairs(np.where(subject_preds[:, 0] > 0.5)[0] + 1, np.where(subject_preds[:, 1] > 0.5)[0] + 1)
    if not subjects:
        return set()
    inputs = [np.repeat(x, len(subjects), 0) for x in (token_ids, segment_ids)]
    spoes = set()
    for subject, preds in zip(subjects, object_model.predict([*inputs, np.array(subjects)]), strict=True):
        for p, predicate in enumerate(predicates):
            starts, ends = (np.where(preds[1:-1, p, side] > 0.5)[0] + 1 for side in (0, 1))
            spoes |= {(words(*subject), predicate, words(*o)) for o in pairs(starts, ends)}
    return spoes


class Evaluator(keras.callbacks.Callback):
    """Says after each epoch how many relations the averaged weights find."""

    def on_epoch_end(self, epoch, logs=None):
        """Evaluate."""
        optimizer.apply_ema_weights()
        found, wanted, both = 1e-10, 1e-10, 1e-10
        for d in valid_data:
            answer, truth = extract_spoes(d["text"]), set(d["spo_list"])
            found, wanted, both = found + len(answer), wanted + len(truth), both + len(answer & truth)
        optimizer.reset_old_weights()
        print(f"valid f1: {2 * both / (found + wanted):.5f}")


if __name__ == "__main__":
    train_generator = data_generator(train_data, batch_size)
    train_model.fit(
        train_generator.forfit(),
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        callbacks=[Evaluator()],
    )
    optimizer.apply_ema_weights()
    text = "陈立生于昆明，后来写了《旧城》。"
    print(text, sorted(extract_spoes(text)))
