"""Sentiment of reviews, written as for bert4keras: one argument drops ALBERT's weight sharing.

python examples/bert4keras/sentiment.py
"""

from pathlib import Path

import keras
import numpy as np
from keras.layers import Dense, GlobalAveragePooling1D

import bert4albert
from bert4albert.bert4keras.backend import set_gelu
from bert4albert.bert4keras.models import build_transformer_model
from bert4albert.bert4keras.optimizers import Adam, extend_with_piecewise_linear_lr
from bert4albert.bert4keras.snippets import DataGenerator, open, sequence_padding
from bert4albert.bert4keras.tokenizers import Tokenizer
from bert4albert.finding import model_folder

set_gelu("tanh")

model_type = "albert_unshared"  # 'albert' shares one block among all depths, as the checkpoint does
num_classes = 2
maxlen = 48
batch_size = 16
epochs = 2

folder = model_folder("albert_tiny_zh")
config_path = str(folder / "config.json")
checkpoint_path = str(folder / "model.safetensors")
dict_path = str(folder / "vocab.txt")
reviews = Path(bert4albert.__file__).parent / "data" / "reviews"

keras.utils.set_random_seed(1)
tokenizer = Tokenizer(dict_path, do_lower_case=True)


def load_data(name):
    """Return (text, label) pairs."""
    examples = []
    with open(str(reviews / name), encoding="utf-8") as f:
        for line in f:
            text, label = line.strip().split("\t")
            examples.append((text, int(label)))
    return examples


class data_generator(DataGenerator):  # noqa: N801  (as scripts for bert4keras name it)
    """Batches of ([token ids, segment ids], labels)."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, (text, label) in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(text, maxlen=maxlen)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            batch_labels.append([label])
            if len(batch_token_ids) == self.batch_size or is_end:
                yield [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)], np.array(batch_labels)
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


train_generator = data_generator(load_data("train.tsv"), batch_size)
valid_generator = data_generator(load_data("valid.tsv"), batch_size)
test_generator = data_generator(load_data("test.tsv"), batch_size)

bert = build_transformer_model(config_path, checkpoint_path, model=model_type, return_keras_model=False)
output = GlobalAveragePooling1D()(bert.model.output)  # over the tokens that are no padding
output = Dense(units=num_classes, activation="softmax", kernel_initializer=bert.initializer)(output)
model = keras.models.Model(bert.model.input, output)

AdamLR = extend_with_piecewise_linear_lr(Adam, name="AdamLR")
model.compile(
    loss="sparse_categorical_crossentropy",
    optimizer=AdamLR(learning_rate=5e-4, lr_schedule={20: 1, 76: 0.1}),
    metrics=["accuracy"],
)


def evaluate(data):
    """Return the accuracy."""
    total, right = 0.0, 0.0
    for x_true, y_true in data:
        y_pred = model.predict(x_true).argmax(axis=1)
        total += len(y_true)
        right += (y_true[:, 0] == y_pred).sum()
    return right / total


class Evaluator(keras.callbacks.Callback):
    """Keeps the weights of the best epoch."""

    def __init__(self):
        super().__init__()
        self.best_val_acc = 0.0

    def on_epoch_end(self, epoch, logs=None):
        """Evaluate and save."""
        val_acc = evaluate(valid_generator)
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            model.save_weights("best_model.weights")
        print(f"val_acc: {val_acc:.5f}, best_val_acc: {self.best_val_acc:.5f}")


if __name__ == "__main__":
    model.fit(
        train_generator.forfit(),
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        callbacks=[Evaluator()],
    )
    model.load_weights("best_model.weights")
    print(f"final test acc: {evaluate(test_generator):.5f}")
