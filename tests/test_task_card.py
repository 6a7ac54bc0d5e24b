"""A saved task tells in its README.md what it is; a README.md of the user's own stays."""

import pytest
from support.models import TINY

from bert4albert import Tokenizer, build_model
from bert4albert.tasks import TextClassifier, load_task
from bert4albert.tasks.task_card import training_facts

pytestmark = pytest.mark.once

TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abc"])


@pytest.fixture(scope="module")
def task():
    return TextClassifier(build_model(TINY, sharing="unshared"), TOKENIZER, ["good|bad", "x"], maxlen=16)


def test_a_card_names_task_labels_scores_sizes_sharing_and_versions(task, tmp_path):
    history = {"loss": [1.0, 0.5, 0.4], "accuracy": [0.25, 0.75, 0.5], "val_accuracy": [0.25, 0.75, 0.5]}
    task.training_facts = training_facts([1] * 7, [1] * 3, history, "accuracy")
    task.save(tmp_path)
    card = (tmp_path / "README.md").read_text("utf-8")
    for said in (
        "# TextClassifier",
        "load_task('.')",
        "| 2 labels | good\\|bad, x |",
        "| training examples | 7 |",
        "| validation examples | 3 |",
        "| weights of epoch | 2 |",
        "| accuracy on the validation examples | 0.7500 |",
        "| sharing | 3 block applications",
        "bert4albert 0.",
        "Keras 3.",
    ):
        assert said in card, said
    again = load_task(tmp_path)
    again.save(tmp_path)
    assert "training examples" not in (tmp_path / "README.md").read_text("utf-8")


def test_a_readme_of_the_users_own_stays(task, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    task.save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert load_task(tmp_path).labels == task.labels
