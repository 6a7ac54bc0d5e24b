"""Every task on every backend: it trains, answers any text, and is the same after saving and loading.

What each task learns and refuses is tested once, in the files of the tasks.
"""

import keras
import numpy as np
import pytest
from support.models import TINY

from bert4albert import Tokenizer, build_model
from bert4albert.tasks import ReadingComprehension, RelationExtractor, Seq2Seq, Tagger, TextClassifier, load_task

TEXTS = ["春山红", "秋水，蓝蓝蓝蓝", "天", "一二三四五"]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(TEXTS)))])
PASSAGE = {"passage": TEXTS[1], "answer": "水"}
TASKS = {
    "classifier": (TextClassifier, {}, [(text, "ab"[i % 2]) for i, text in enumerate(TEXTS)]),
    "crf": (Tagger, {"method": "crf"}, [(text, [(0, 1, "X")]) for text in TEXTS]),
    "pointers": (Tagger, {"method": "global_pointer"}, [(text, [(0, 1, "X")]) for text in TEXTS]),
    "casrel": (RelationExtractor, {"method": "casrel"}, [(text, [(text[0], "r", text[-1])]) for text in TEXTS]),
    "gplinker": (RelationExtractor, {"method": "gplinker"}, [(text, [(text[0], "r", text[-1])]) for text in TEXTS]),
    "writer": (Seq2Seq, {"target_maxlen": 4}, [(text, text[0]) for text in TEXTS]),
    "reader": (
        ReadingComprehension,
        {"target_maxlen": 4, "question_maxlen": 8},
        [{"question": "水", "passages": [PASSAGE]}] * 3,
    ),
}


# TensorFlow compiles one of them; the files of the tasks compile the others.
@pytest.mark.parametrize(
    "name", [name if name == "gplinker" else pytest.param(name, marks=pytest.mark.eager) for name in TASKS]
)
def test_every_task_trains_answers_and_survives_saving(name, tmp_path):
    keras.utils.set_random_seed(2)
    task_class, settings, examples = TASKS[name]
    application = "unilm" if issubclass(task_class, Seq2Seq) else "encoder"
    trunk = build_model(TINY | {"vocab_size": TOKENIZER.vocab_size, "num_hidden_layers": 2}, application=application)
    task = task_class(trunk, TOKENIZER, maxlen=24, **settings)
    history = task.fit(examples, epochs=1, batch_size=2, learning_rate=1e-3, verbose=0)
    assert np.isfinite(history["loss"]).all()
    odd = ["", "天" * 60, "😀", "unknown words"]
    texts = [{"question": text, "passages": [text]} for text in odd] if name == "reader" else odd
    answers = task.predict(texts)
    assert len(answers) == len(texts)
    task.save(tmp_path / "task")
    assert load_task(tmp_path / "task").predict(texts) == answers
