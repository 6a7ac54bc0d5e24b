"""Small scripts in the old style: each trains a few steps and predicts, with plain Keras imports as they were."""

import keras
import numpy as np
import pytest
from keras.layers import Dense, Lambda
from keras.models import Model

from bert4albert.bert4keras.backend import K, search_layer
from bert4albert.bert4keras.layers import ConditionalRandomField, EfficientGlobalPointer, LayerNormalization, Loss
from bert4albert.bert4keras.models import build_transformer_model
from bert4albert.bert4keras.optimizers import (
    Adam,
    extend_with_exponential_moving_average,
    extend_with_layer_adaptation,
    extend_with_weight_decay,
)
from bert4albert.bert4keras.snippets import AutoRegressiveDecoder, DataGenerator
from bert4albert.bert4keras.symbolic import TotalLoss
from bert4albert.errors import ConfigError

CONFIG = {
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position": 32,
    "hidden_act": "gelu",
}
EAGERLY = keras.backend.backend() == "tensorflow"  # compiling takes longer than the few steps here
tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="K.gradients is TensorFlow's")


@pytest.fixture
def ids():
    token_ids = np.random.default_rng(1).integers(1, 61, (4, 9))
    token_ids[1:, 6:] = 0
    return token_ids


def forever(*batch):
    while True:
        yield batch


def classifier():
    bert = build_transformer_model(**CONFIG, model="albert", embedding_size=16, return_keras_model=False)
    output = Lambda(lambda x: x[:, 0], name="CLS-token")(bert.model.output)
    output = Dense(units=3, activation="softmax", kernel_initializer=bert.initializer)(output)
    return Model(bert.model.input, output)


def test_a_classifier_learns(ids, tmp_path):
    model = classifier()
    model.compile(
        loss="sparse_categorical_crossentropy", optimizer=Adam(1e-2), metrics=["accuracy"], run_eagerly=EAGERLY
    )
    labels = np.array([[0], [1], [2], [0]])
    history = model.fit(forever([ids, np.zeros_like(ids)], labels), steps_per_epoch=2, epochs=2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "accuracy" in history
    predicted = model.predict([ids, np.zeros_like(ids)])
    model.save_weights(str(tmp_path / "best_model.weights"))
    model.load_weights(str(tmp_path / "best_model.weights"))
    np.testing.assert_array_equal(model.predict([ids.tolist(), np.zeros_like(ids).tolist()]), predicted)


def test_a_tagger_learns(ids):
    model = build_transformer_model(**{**CONFIG, "num_hidden_layers": 2})
    output = Dense(5)(model.get_layer("Transformer-1-FeedForward-Norm").output)
    crf = ConditionalRandomField(lr_multiplier=100)
    model = Model(model.input, crf(output))
    model.compile(loss=crf.sparse_loss, optimizer=Adam(1e-2), metrics=[crf.sparse_accuracy], run_eagerly=EAGERLY)
    inputs = [ids, np.zeros_like(ids)]
    history = model.fit(forever(inputs, ids % 5), steps_per_epoch=2, epochs=2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert (np.isinf(model.predict(inputs)).all(axis=2) == (ids == 0)).all()
    assert K.eval(crf.trans).shape == (5, 5)


class CrossEntropy(Loss):
    def compute_loss(self, inputs, mask=None):
        y_true, y_mask, y_pred = inputs
        loss = K.sparse_categorical_crossentropy(y_true[:, 1:], y_pred[:, :-1])
        return K.sum(loss * y_mask[:, 1:]) / K.sum(y_mask[:, 1:])


class Writer(AutoRegressiveDecoder):
    """Writes from memory where it can."""

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.model = model

    def last(self, inputs):
        return self.last_token(self.model).predict(inputs)

    @AutoRegressiveDecoder.wraps(default_rtype="probas")
    def predict(self, inputs, output_ids, states):
        token_ids, segment_ids = inputs
        token_ids = np.concatenate([token_ids, output_ids], 1)
        segment_ids = np.concatenate([segment_ids, np.ones_like(output_ids)], 1)
        return self.last([token_ids, segment_ids])


class Reader(Writer):
    """Reads everything anew for each token."""

    def last(self, inputs):
        return self.model.predict(inputs)[:, -1]


def test_sequence_to_sequence_learns_and_writes(ids):
    model = build_transformer_model(**CONFIG, application="unilm")
    train_model = Model(model.inputs, CrossEntropy(2)(model.inputs + model.outputs))
    train_model.compile(optimizer=Adam(1e-2), run_eagerly=EAGERLY)
    segments = (np.arange(9) > 3) * np.ones_like(ids)
    history = train_model.fit(forever([ids, segments], None), steps_per_epoch=2, epochs=2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    inputs = [ids[0, :4].tolist(), [0] * 4]
    written, read = (
        kind(model, start_id=None, end_id=3, maxlen=3).beam_search(inputs, topk=2) for kind in (Writer, Reader)
    )
    np.testing.assert_array_equal(written, read)
    assert 1 <= len(written) <= 3


class TwoLosses(Loss):
    def compute_loss(self, inputs, mask=None):
        subjects, objects, subject_preds, object_preds = inputs
        mask = K.cast(mask[2], K.floatx())
        loss = K.mean(K.binary_crossentropy(subjects, subject_preds) + K.binary_crossentropy(objects, object_preds), 2)
        return K.sum(loss * mask) / K.sum(mask)


class Averaged(keras.callbacks.Callback):
    """Predicts with averaged weights after each epoch."""

    def __init__(self, optimizer, predictor, inputs):
        super().__init__()
        self.averages, self.predictor, self.inputs, self.seen = optimizer, predictor, inputs, []

    def on_epoch_end(self, epoch, logs=None):
        self.averages.apply_ema_weights()
        self.seen.append(self.predictor.predict(self.inputs))
        self.averages.reset_old_weights()


@pytest.mark.once
def test_relations_learn_and_weights_are_averaged(ids):
    bert = build_transformer_model(**CONFIG, return_keras_model=False)
    subjects, objects = keras.layers.Input((None, 2)), keras.layers.Input((None, 2))
    which = keras.layers.Input((2,))
    subject_preds = Dense(2, activation="sigmoid")(bert.model.output)
    output = bert.model.layers[-2].get_output_at(-1)
    subject = Lambda(lambda x: K.concatenate([K.expand_dims(x[1][:, 0]), x[0][:, 0]]))([output, which])
    output = LayerNormalization(conditional=True)([output, subject])
    object_preds = Dense(2, activation="sigmoid")(output)
    predictor = Model([*bert.model.inputs, which], object_preds)
    outputs = TwoLosses([2, 3])([subjects, objects, subject_preds, object_preds])
    train_model = Model([*bert.model.inputs, subjects, which, objects], outputs)
    optimizer = extend_with_exponential_moving_average(Adam, name="AdamEMA")(learning_rate=1e-2, ema_momentum=0.5)
    train_model.compile(optimizer=optimizer, run_eagerly=EAGERLY)
    labels, some = np.ones((4, 9, 2)) * (ids % 2)[..., None], np.ones((4, 2))
    inputs = [ids, np.zeros_like(ids), some]
    averaged = Averaged(optimizer, predictor, inputs)
    batches = forever([ids, np.zeros_like(ids), labels, some, 1 - labels], None)
    history = train_model.fit_generator(batches, steps_per_epoch=2, epochs=2, verbose=0, callbacks=[averaged]).history
    assert history["loss"][-1] < history["loss"][0]
    assert averaged.seen[1].shape == (4, 9, 2)
    assert np.abs(averaged.seen[1] - predictor.predict(inputs)).max() > 0
    drawn = ([*inputs] for _ in range(2))
    np.testing.assert_allclose(predictor.predict_generator(drawn, steps=2)[4:], predictor.predict(inputs), atol=1e-6)


@pytest.mark.once
def test_arguments_in_a_row_are_those_of_keras_2():
    class Count(keras.callbacks.Callback):
        ends = 0

        def on_epoch_end(self, epoch, logs=None):
            self.ends += 1

        def on_test_end(self, logs=None):
            self.ends += 10

    model = keras.Sequential([keras.Input((3,)), Dense(1)])
    model.compile("sgd", "mse", run_eagerly=EAGERLY)
    count, batches = Count(), forever(np.ones((2, 3)), np.ones((2, 1)))
    model.fit_generator(batches, 2, 3, 0, [count])
    assert count.ends == 3
    model.evaluate_generator(batches, 1, [count], verbose=0)
    assert count.ends == 13
    with pytest.raises(ConfigError, match="by name"):
        model.predict_generator(batches, 1, None, 10)


def test_batches_may_differ_after_two_of_one_length(ids):
    model = classifier()
    model.compile(loss="sparse_categorical_crossentropy", optimizer=Adam(1e-2), run_eagerly=EAGERLY)
    batches = [([ids[:, :length], 0 * ids[:, :length]], np.zeros((4, 1))) for length in (9, 9, 7, 8)]
    model.fit((batch for batch in batches), steps_per_epoch=4, epochs=1, verbose=0)
    found = model.predict(x for x, _ in batches)
    wanted = np.concatenate([model.predict(x) for x, _ in batches])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.once
def test_pointers_learn_nothing_from_padding(ids):
    model = build_transformer_model(**CONFIG)
    pointers = Model(model.inputs, EfficientGlobalPointer(heads=2, head_size=8)(model.output))
    scores = pointers.predict([ids, np.zeros_like(ids)])
    assert scores.shape == (4, 2, 9, 9)
    assert np.isinf(scores[1, :, :, 6:]).all()
    assert np.isinf(scores[0, 0][np.tril_indices(9, -1)]).all()


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow can do it")
def test_what_only_tensorflow_can_do_says_so():
    model = Model(tokens := keras.Input((3,)), Dense(2)(tokens))
    model.compile("sgd", "mse")
    for impossible in (
        lambda: K.gradients(model.total_loss, model.outputs),
        lambda: K.function(model.inputs, [TotalLoss(model)]),
        model._make_train_function,
        lambda: DataGenerator([1, 2]).to_dataset("int32", ()),
    ):
        with pytest.raises(ConfigError, match="works on TensorFlow only"):
            impossible()


@tensorflow_only
def test_a_train_function_is_replaced(ids):
    model = classifier()
    model.compile(loss="kld", optimizer=Adam(1e-3))
    assert model.train_function is None
    model._make_train_function()
    old, seen, losses, wanted = model.train_function, [], [], []
    embeddings = search_layer(model.outputs[0], "Embedding-Token").embeddings
    gradients = K.gradients(model.total_loss, [embeddings])
    gradients = K.zeros_like(embeddings) + gradients[0]
    feeds = model._feed_inputs + model._feed_targets + model._feed_sample_weights
    outputs_of = K.function(inputs=feeds, outputs=model.outputs, name="model_outputs")
    gradients_of = K.function(inputs=feeds, outputs=[gradients], name="embedding_gradients")

    def train_function(inputs):
        # Virtual adversarial training: stay with what was predicted, though the words are moved.
        outputs = outputs_of(inputs)
        inputs = inputs[:2] + outputs + inputs[3:]
        first = np.random.default_rng(len(seen)).normal(size=K.int_shape(embeddings))
        K.set_value(embeddings, K.eval(embeddings) + first)
        seen.append(gradients_of(inputs)[0])
        moved = seen[-1] / np.sqrt((seen[-1] ** 2).sum())
        K.set_value(embeddings, K.eval(embeddings) - first + moved)
        wanted.append(np.mean(np.sum(outputs[0] * np.log(outputs[0] / outputs_of(inputs)[0]), axis=-1)))
        losses.append(old(inputs)[0])
        K.set_value(embeddings, K.eval(embeddings) - moved)
        return losses[-1:]

    model.train_function = train_function
    inputs = [ids, np.zeros_like(ids)]
    model.fit(forever(inputs, np.eye(3)[[0, 1, 2, 0]]), steps_per_epoch=2, epochs=1, verbose=0)
    assert len(seen) == 2
    assert np.abs(seen[0]).sum() > 0
    assert int(model.optimizer.iterations.numpy()) == 2
    model.train_on_batch(inputs, np.eye(3)[[0, 1, 2, 0]])
    assert len(seen) == 3
    assert min(wanted) > 1e-4
    np.testing.assert_allclose([losses[0], losses[2]], [wanted[0], wanted[2]], rtol=1e-3)


@tensorflow_only
def test_a_model_is_pretrained(ids):
    import tensorflow as tf

    def parsed(token_ids):
        masked = K.not_equal(token_ids % 7, 0)
        x = {
            "Input-Token": K.switch(masked, token_ids, K.zeros_like(token_ids)),
            "Input-Segment": K.zeros_like(token_ids, dtype="int64"),
            "token_ids": token_ids,
            "is_masked": K.cast(masked, K.floatx()),
        }
        return x, {"mlm_loss": K.zeros([1]), "mlm_acc": K.ones([1])}

    def mlm_loss(inputs):
        y_true, y_pred, mask = inputs
        loss = K.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        return K.sum(loss * mask) / (K.sum(mask) + K.epsilon())

    def mlm_acc(inputs):
        y_true, y_pred, mask = inputs
        acc = keras.metrics.sparse_categorical_accuracy(K.cast(y_true, K.floatx()), y_pred)
        return K.sum(acc * mask) / (K.sum(mask) + K.epsilon())

    bert = build_transformer_model(**CONFIG, with_mlm="linear", return_keras_model=False)
    token_ids = keras.layers.Input(shape=(None,), dtype="int64", name="token_ids")
    is_masked = keras.layers.Input(shape=(None,), dtype=K.floatx(), name="is_masked")
    outputs = [
        Lambda(function, name=function.__name__)([token_ids, bert.model.output, is_masked])
        for function in (mlm_loss, mlm_acc)
    ]
    model = Model([*bert.model.inputs, token_ids, is_masked], outputs)
    decayed = extend_with_layer_adaptation(extend_with_weight_decay(Adam))
    names = {"exclude_from_weight_decay": ["Norm", "bias"], "exclude_from_layer_adaptation": ["Norm", "bias"]}
    losses = {"mlm_loss": lambda y_true, y_pred: y_pred, "mlm_acc": lambda y_true, y_pred: K.stop_gradient(y_pred)}
    model.compile(loss=losses, optimizer=decayed(learning_rate=1e-2, weight_decay_rate=0.01, **names), run_eagerly=True)
    dataset = tf.data.Dataset.from_tensor_slices(ids).map(parsed).repeat().batch(4)
    before = model.predict_on_batch(next(iter(dataset))[0])
    history = model.fit(dataset, steps_per_epoch=1, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["mlm_loss_loss"][0], before[0], rtol=1e-5)
    np.testing.assert_allclose(history["loss"][0], before[0] + before[1], rtol=1e-5)
    assert history["mlm_loss_loss"][1] < history["mlm_loss_loss"][0]


@tensorflow_only
def test_a_loss_has_a_gradient_penalty(ids):
    model = classifier()

    def penalised(y_true, y_pred):
        y_true = K.one_hot(K.reshape(y_true, K.shape(y_pred)[:-1]), 3)
        loss = K.mean(K.categorical_crossentropy(y_true, y_pred))
        embeddings = search_layer(y_pred, "Embedding-Token").embeddings
        return loss + 0.5 * K.sum(K.gradients(loss, [embeddings])[0].values ** 2)

    model.compile(loss=penalised, optimizer=Adam(1e-3))
    model.fit(forever([ids, np.zeros_like(ids)], np.zeros((4, 1))), steps_per_epoch=1, epochs=1, verbose=0)


@pytest.mark.once
def test_weights_train_as_they_were_compiled(ids):
    model = classifier()
    model.compile(loss="sparse_categorical_crossentropy", optimizer=Adam(1e-2), run_eagerly=EAGERLY)
    table = model.get_layer("Embedding-Token").get_weights()[0]
    for layer in model.layers:
        layer.trainable = False
    model.fit(forever([ids, np.zeros_like(ids)], np.zeros((4, 1))), steps_per_epoch=1, epochs=1, verbose=0)
    assert np.abs(model.get_layer("Embedding-Token").get_weights()[0] - table).max() > 0
    assert not model.trainable_weights
