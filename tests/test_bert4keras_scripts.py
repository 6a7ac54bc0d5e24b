"""Small scripts in the old style: each trains a few steps and predicts, with plain Keras imports as they were."""

import keras
import numpy as np
import pytest
from keras.layers import Dense, Lambda
from keras.models import Model

from bert4albert.bert4keras.backend import K, search_layer
from bert4albert.bert4keras.layers import ConditionalRandomField, EfficientGlobalPointer, Loss
from bert4albert.bert4keras.models import build_transformer_model
from bert4albert.bert4keras.optimizers import Adam

CONFIG = {
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position": 32,
    "hidden_act": "gelu",
}
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
    model.compile(loss="sparse_categorical_crossentropy", optimizer=Adam(1e-2), metrics=["accuracy"])
    labels = np.array([[0], [1], [2], [0]])
    history = model.fit(forever([ids, np.zeros_like(ids)], labels), steps_per_epoch=2, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "accuracy" in history
    predicted = model.predict([ids, np.zeros_like(ids)])
    model.save_weights(str(tmp_path / "best_model.weights"))
    model.load_weights(str(tmp_path / "best_model.weights"))
    np.testing.assert_array_equal(model.predict([ids.tolist(), np.zeros_like(ids).tolist()]), predicted)


def test_a_tagger_learns(ids):
    model = build_transformer_model(**CONFIG)
    output = Dense(5)(model.get_layer("Transformer-1-FeedForward-Norm").output)
    crf = ConditionalRandomField(lr_multiplier=100)
    model = Model(model.input, crf(output))
    model.compile(loss=crf.sparse_loss, optimizer=Adam(1e-2), metrics=[crf.sparse_accuracy])
    inputs = [ids, np.zeros_like(ids)]
    history = model.fit(forever(inputs, ids % 5), steps_per_epoch=2, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert (np.isinf(model.predict(inputs)).all(axis=2) == (ids == 0)).all()
    assert K.eval(crf.trans).shape == (5, 5)


class CrossEntropy(Loss):
    def compute_loss(self, inputs, mask=None):
        y_true, y_mask, y_pred = inputs
        loss = K.sparse_categorical_crossentropy(y_true[:, 1:], y_pred[:, :-1])
        return K.sum(loss * y_mask[:, 1:]) / K.sum(y_mask[:, 1:])


def test_sequence_to_sequence_learns(ids):
    model = build_transformer_model(**CONFIG, application="unilm")
    train_model = Model(model.inputs, CrossEntropy(2)(model.inputs + model.outputs))
    train_model.compile(optimizer=Adam(1e-2))
    segments = (np.arange(9) > 3) * np.ones_like(ids)
    history = train_model.fit(forever([ids, segments], None), steps_per_epoch=2, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_pointers_learn_nothing_from_padding(ids):
    model = build_transformer_model(**CONFIG)
    pointers = Model(model.inputs, EfficientGlobalPointer(heads=2, head_size=8)(model.output))
    scores = pointers.predict([ids, np.zeros_like(ids)])
    assert scores.shape == (4, 2, 9, 9)
    assert np.isinf(scores[1, :, :, 6:]).all()
    assert np.isinf(scores[0, 0][np.tril_indices(9, -1)]).all()


@tensorflow_only
def test_a_train_function_is_replaced(ids):
    model = classifier()
    model.compile(loss="sparse_categorical_crossentropy", optimizer=Adam(1e-3))
    assert model.train_function is None
    model._make_train_function()
    old, seen = model.train_function, []
    embeddings = search_layer(model.outputs[0], "Embedding-Token").embeddings
    gradients = K.gradients(model.total_loss, [embeddings])
    gradients = K.zeros_like(embeddings) + gradients[0]
    feeds = model._feed_inputs + model._feed_targets + model._feed_sample_weights
    function = K.function(inputs=feeds, outputs=[gradients], name="embedding_gradients")

    def train_function(inputs):
        seen.append(function(inputs)[0])
        return old(inputs)

    model.train_function = train_function
    model.fit(forever([ids, np.zeros_like(ids)], np.zeros((4, 1))), steps_per_epoch=2, epochs=1, verbose=0)
    assert len(seen) == 2
    assert np.abs(seen[0]).sum() > 0
    assert int(model.optimizer.iterations.numpy()) == 2


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


def test_weights_train_as_they_were_compiled(ids):
    model = classifier()
    model.compile(loss="sparse_categorical_crossentropy", optimizer=Adam(1e-2))
    table = model.get_layer("Embedding-Token").get_weights()[0]
    for layer in model.layers:
        layer.trainable = False
    model.fit(forever([ids, np.zeros_like(ids)], np.zeros((4, 1))), steps_per_epoch=1, epochs=1, verbose=0)
    assert np.abs(model.get_layer("Embedding-Token").get_weights()[0] - table).max() > 0
    assert not model.trainable_weights
