"""The corpus on its way to a batch: reading, vocabulary, shards, examples, masks."""

import errno
import gzip
import itertools
import lzma
import time

import numpy as np
import pytest

from bert4albert.errors import DataError, TokenizerError
from bert4albert.pretraining.cooccurrence import _neighbour_counts, cooccurrence_embeddings, log_frequencies
from bert4albert.pretraining.corpus import Corpus
from bert4albert.pretraining.examples import Examples, Place, Prefetched
from bert4albert.pretraining.masking import Masking
from bert4albert.pretraining.shards import Shards, tokenize_corpus
from bert4albert.pretraining.vocabulary_building import SPECIAL_TOKENS, build_vocabulary
from bert4albert.text import Tokenizer

pytestmark = pytest.mark.once

WORDS = [chr(0x4E00 + index) for index in range(300)]


def tokenizer():
    return Tokenizer([*SPECIAL_TOKENS, "[unused1]", *WORDS])


def write_corpus(path, documents=60, sentences=(1, 13), words=(3, 40), seed=0):
    """Random documents; the first has one sentence."""
    random = np.random.default_rng(seed)
    texts = []
    for document in range(documents):
        count = 1 if document == 0 else random.integers(*sentences)
        texts.append("\n".join("".join(random.choice(WORDS, random.integers(*words))) for _ in range(count)))
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def shards(tmp_path):
    return tokenize_corpus(write_corpus(tmp_path / "corpus.txt"), tokenizer(), tmp_path / "shards", 1, shard_size=2000)


def unmasked(batch):
    """The rows as they were before masking."""
    token_ids = batch.token_ids.copy()
    rows, places = np.nonzero(batch.masked_weights)
    token_ids[rows, batch.masked_positions[rows, places]] = batch.masked_ids[rows, places]
    return token_ids


@pytest.mark.parametrize(("name", "opener"), [("a.txt", open), ("a.txt.gz", gzip.open), ("a.txt.xz", lzma.open)])
def test_documents_are_read_from_plain_and_compressed_files(tmp_path, name, opener):
    with opener(tmp_path / name, "wt", encoding="utf-8") as file:
        file.write("\n一二\n 三 \n\n\n\n四五六\n")
    corpus = Corpus([tmp_path / name, tmp_path / name])
    assert list(corpus) == [["一二", "三"], ["四五六"]] * 2
    assert corpus.fraction_read == 1.0


def damaged_xz(path):
    path.write_bytes(lzma.compress(b"text\n" * 1000)[:-30])


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.txt", lambda path: None, "There is no corpus file"),
        ("a.txt", lambda path: path.write_bytes("中文".encode("gb18030") * 5), "not UTF-8"),
        ("a.txt.xz", damaged_xz, "cannot be read"),
        ("a.txt.gz", lambda path: path.write_bytes(b"not compressed"), "cannot be read"),
        ("a.txt", lambda path: path.write_text("\n \n\n"), "holds no text"),
    ],
)
def test_a_corpus_that_cannot_be_used_says_why(tmp_path, name, write, words):
    write(tmp_path / name)
    with pytest.raises(DataError, match=words):
        tokenize_corpus(tmp_path / name, tokenizer(), tmp_path / "shards", workers=1)


def test_vocabulary_holds_special_tokens_frequent_characters_and_latin_pieces(tmp_path):
    text = "我喜欢Linux系统，版本2024。" * 30 + "罕"
    (tmp_path / "a.txt").write_text(text + "\n", encoding="utf-8")
    tokens = build_vocabulary(tmp_path / "a.txt", size=240, minimum_count=5)
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(tokens) == len(set(tokens)) <= 240
    assert {"我", "欢", "，", "。", "！", "!", "linux", "2024", "##z", "7"} <= set(tokens)
    assert "罕" not in tokens
    assert Tokenizer(tokens).tokenize("喜欢Linux！zq")[1:-1] == ["喜", "欢", "linux", "！", "z", "##q"]


def test_vocabulary_keeps_the_most_frequent_characters_that_fit(tmp_path):
    lines = ["".join(WORDS[: 300 - 10 * n]) for n in range(20)]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    tokens = build_vocabulary(tmp_path / "a.txt", size=250, minimum_count=1)
    assert len(tokens) == 250
    kept = [token for token in tokens if token in WORDS]
    assert kept == WORDS[: len(kept)]
    with pytest.raises(DataError, match="no room"):
        build_vocabulary(tmp_path / "a.txt", size=100)


def test_shards_hold_every_token_of_every_sentence(tmp_path, shards):
    documents = list(Corpus(tmp_path / "corpus.txt"))
    assert len(shards) > 3
    assert shards.num_documents == len(documents)
    assert shards.num_sentences == sum(map(len, documents))
    found = []
    for shard in range(len(shards)):
        tokens, ends = shards.tokens(shard), shards.sentence_ends(shard)
        sentences = [tokenizer().decode(part) for part in np.split(tokens, ends[:-1])]
        found += [list(part) for part in np.split(np.array(sentences), shards.document_ends(shard)[:-1])]
    assert found == documents


def test_parallel_and_resumed_tokenising_write_the_same_shards(tmp_path, shards, monkeypatch):
    corpus, folder = tmp_path / "corpus.txt", tmp_path / "again"
    written = []

    def interrupt(self, size):
        written.append(size)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bert4albert.pretraining.progress.ProgressLine.show", lambda self, *_, **__: interrupt(self, _))
        with pytest.raises(KeyboardInterrupt):
            tokenize_corpus(corpus, tokenizer(), folder, workers=1, shard_size=2000)
    with pytest.raises(DataError, match="not a whole tokenised corpus"):
        Shards(folder)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    assert len(kept) == 9
    again = tokenize_corpus(corpus, tokenizer(), folder, workers=2, shard_size=2000)
    assert again.sizes == shards.sizes
    for path in sorted(shards.folder.glob("*.npy")):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept


def test_a_full_disk_stops_tokenising_with_one_error_and_it_goes_on_later(tmp_path, shards, monkeypatch):
    saved = []

    def filling_up(file, arr, save=np.save):
        saved.append(arr)
        if len(saved) == 5:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, arr)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", filling_up)
        with pytest.raises(DataError, match=r"No space left on device.*run the same command again"):
            tokenize_corpus(tmp_path / "corpus.txt", tokenizer(), tmp_path / "again", workers=1, shard_size=2000)
    assert not list((tmp_path / "again").glob(".*"))
    assert tokenize_corpus(tmp_path / "corpus.txt", tokenizer(), tmp_path / "again", 1, 2000).sizes == shards.sizes


def test_shards_of_another_vocabulary_are_not_mixed_up(tmp_path, shards):
    with pytest.raises(DataError, match="another corpus or vocabulary"):
        tokenize_corpus(tmp_path / "corpus.txt", Tokenizer([*SPECIAL_TOKENS, *WORDS]), shards.folder, shard_size=2000)


def test_rows_are_two_consecutive_parts_of_one_document(shards):
    examples = Examples(shards, tokenizer(), length=48, batch_size=16)
    corpus = [shards.tokens(shard) for shard in range(len(shards))]
    documents = [
        np.concatenate([[0], shards.sentence_ends(shard)[shards.document_ends(shard) - 1]])
        for shard in range(len(shards))
    ]
    cuts = examples.cut(0)
    batch = examples.assemble(cuts, np.random.default_rng(0))
    assert len(cuts) > 100
    for row, (shard, start, split, stop) in enumerate(cuts):
        inside = np.searchsorted(documents[shard], [start, stop - 1], side="right")
        assert inside[0] == inside[1]
        parts = [corpus[shard][start:split], corpus[shard][split:stop]]
        assert all(len(part) for part in parts)
        if batch.sentence_order[row]:
            parts.reverse()
        expected = np.concatenate([[2], parts[0], [3], parts[1], [3]])
        assert len(expected) <= 48
        assert (unmasked(batch)[row, : len(expected)] == expected).all()
        assert not batch.token_ids[row, len(expected) :].any()
        assert batch.segment_ids[row].sum() == len(parts[1]) + 1
        assert batch.segment_ids[row, len(parts[0]) + 2 : len(expected)].all()


def test_segments_are_filled_and_cut_between_sentences(shards):
    examples = Examples(shards, tokenizer(), length=60, batch_size=4, short_rate=0.0)
    cuts = examples.cut(3)
    for shard, start, split, stop in cuts:
        ends = shards.sentence_ends(shard)
        inside = ends[(ends > start) & (ends < stop)]
        assert split in inside or not len(inside)
    assert np.mean((cuts[:, 3] - cuts[:, 1]) == 57) > 0.7
    short = Examples(shards, tokenizer(), length=60, batch_size=4, short_rate=1.0).cut(3)
    assert np.mean((short[:, 3] - short[:, 1]) == 57) < 0.3


def test_a_document_of_one_sentence_gives_examples_and_one_of_one_token_gives_none(tmp_path):
    (tmp_path / "a.txt").write_text(f"{''.join(WORDS[:90])}\n\n{WORDS[0]}\n\n{WORDS[1]}{WORDS[2]}\n", encoding="utf-8")
    shards = tokenize_corpus(tmp_path / "a.txt", tokenizer(), tmp_path / "shards", workers=1)
    cuts = Examples(shards, tokenizer(), length=32, batch_size=1, short_rate=0.0).cut(0)
    assert sorted((cuts[:, 3] - cuts[:, 1]).tolist()) == [2, 29]


def test_a_corpus_too_small_for_a_batch_says_so(shards):
    with pytest.raises(DataError, match="too few for one batch of 5000"):
        next(Examples(shards, tokenizer(), batch_size=5000).batches())


def test_data_goes_on_from_any_place_as_if_never_interrupted(shards):
    examples = Examples(shards, tokenizer(), length=48, batch_size=64, seed=7)
    whole = list(itertools.islice(examples.batches(), 9))
    assert {place.epoch for _, place in whole} > {0, 1}
    for number, (_, place) in enumerate(whole[:-1]):
        rest = Examples(shards, tokenizer(), length=48, batch_size=64, seed=7).batches(Place(*place))
        for (batch, after), (again, place_again) in zip(whole[number + 1 :], rest, strict=False):
            assert after == place_again
            assert all((one == other).all() for one, other in zip(batch, again, strict=True))


def test_every_epoch_and_every_seed_cuts_and_masks_anew(shards):
    first, second = (Examples(shards, tokenizer(), length=48, batch_size=8, seed=seed) for seed in (1, 2))
    assert not np.array_equal(first.cut(0)[:50], first.cut(1)[:50])
    assert not np.array_equal(first.cut(0)[:50], second.cut(0)[:50])


@pytest.fixture(scope="module")
def masked_examples():
    """100,000 rows with the rows before masking, and which tokens were hidden."""
    random = np.random.default_rng(0)
    masking = Masking.of(tokenizer())
    rows = random.integers(6, 306, (100_000, 64)).astype("int32")
    rows[:, 0], rows[:, 40], rows[:, 60] = 2, 3, 3
    rows[:, 61:] = 0
    rows[:20_000, 30] = 1
    return rows, *masking(rows, random)


def test_masking_statistics_over_100000_examples(masked_examples):
    rows, seen, positions, masked_ids, weights = masked_examples
    hidden = np.zeros(rows.shape, bool)
    row, place = np.nonzero(weights)
    hidden[row, positions[row, place]] = True
    ordinary = ~np.isin(rows, [0, 1, 2, 3, 4, 5])
    assert abs(hidden.sum() / ordinary.sum() / 0.15 - 1) < 0.01
    assert not (hidden & ~ordinary).any()
    assert (rows[row, positions[row, place]] == masked_ids[row, place]).all()
    assert (seen[~hidden] == rows[~hidden]).all()
    became_mask = (seen[hidden] == 4).mean()
    kept = (seen[hidden] == rows[hidden]).mean()
    assert abs(became_mask - 0.8) < 0.008
    # A random token is the right one by chance once in 300.
    assert abs(kept - (0.1 + 0.1 / 300)) < 0.003
    replaced = seen[hidden & (seen != 4) & (seen != rows)]
    assert replaced.min() >= 6
    counts = np.bincount(replaced, minlength=306)[6:]
    assert abs(counts / counts.mean() - 1).max() < 0.4


def test_span_lengths_follow_alberts_probabilities_within_one_percent():
    # Rows so short that each hides one span, whose length can then be counted.
    masking = Masking.of(tokenizer())
    hidden = masking.choose(np.full((1_000_000, 7), 9, "int32"), np.random.default_rng(1))
    shares = np.bincount(hidden.sum(axis=1), minlength=4) / len(hidden)
    assert shares[0] == 0
    assert len(shares) == 4
    assert abs(shares[1:] / (np.array([6, 3, 2]) / 11) - 1).max() < 0.01


def test_the_rate_holds_where_few_are_hidden():
    masking = Masking.of(tokenizer(), rate=0.01)
    hidden = masking.choose(np.full((4_000, 2_000), 9, "int32"), np.random.default_rng(1))
    assert abs(hidden.mean() / 0.01 - 1) < 0.01


def test_sentence_order_is_swapped_in_half_of_100000_examples(shards):
    examples = Examples(shards, tokenizer(), length=32, batch_size=8)
    cuts = np.tile(examples.cut(0), (100_000 // len(examples.cut(0)) + 1, 1))[:100_000]
    swapped = examples.assemble(cuts, np.random.default_rng(3)).sentence_order
    assert abs(swapped.mean() - 0.5) < 0.005


def test_the_shortest_rows_have_one_token_hidden():
    rows = np.array([[2, 9, 3, 8, 3], [2, 1, 3, 7, 3], [2, 1, 3, 1, 3]], "int32")
    masking = Masking.of(tokenizer())
    _, positions, masked_ids, weights = masking(rows, np.random.default_rng(0))
    assert weights.sum(axis=1).tolist() == [1, 1, 0]
    assert positions.shape == (3, masking.capacity(5))
    assert masked_ids[1, 0] == 7


def test_a_vocabulary_without_mask_is_refused(shards):
    without = Tokenizer([token for token in tokenizer().vocab if token != "[MASK]"])
    with pytest.raises(TokenizerError, match=r"no \[MASK\]"):
        Examples(shards, without)


def test_prefetching_keeps_the_order_ends_and_hands_errors_on():
    assert list(Prefetched(iter(range(50)), ahead=3)) == list(range(50))

    def failing():
        yield 1
        raise DataError("broken")

    items = Prefetched(failing())
    assert next(items) == 1
    with pytest.raises(DataError, match="broken"):
        next(items)


def test_prefetching_stops_when_closed():
    taken = []
    items = Prefetched((taken.append(number) or number for number in itertools.count()), ahead=2)
    assert next(items) == 0
    items.close()
    count = len(taken)
    time.sleep(0.05)
    assert len(taken) == count


def test_neighbours_are_counted_both_ways_up_to_five_tokens_away(shards):
    size = tokenizer().vocab_size
    expected = np.zeros((size, size))
    for shard in range(len(shards)):
        tokens = shards.tokens(shard)
        for place, token in enumerate(tokens):
            for other in tokens[max(0, place - 5) : place]:
                expected[token, other] += 1
                expected[other, token] += 1
    assert len(shards) > 1
    np.testing.assert_array_equal(_neighbour_counts(shards, size), expected)


def test_words_in_like_company_get_like_embeddings(tmp_path):
    random = np.random.default_rng(0)
    # Ten words stand among one company and ten among another, never beside one another.
    groups = [(WORDS[:10], WORDS[20:30]), (WORDS[10:20], WORDS[30:40])]
    sentences = []
    for _ in range(2000):
        words, company = groups[random.integers(2)]
        around = random.choice(company, 10)
        sentences.append("".join([*around[:5], random.choice(words), *around[5:]]))
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(sentences), encoding="utf-8")
    shards = tokenize_corpus(path, tokenizer(), tmp_path / "shards", 1)
    embeddings = cooccurrence_embeddings(shards, tokenizer().vocab_size, 2, seed=2)
    ids = np.array([tokenizer().vocab[word] for word in WORDS[:20]])
    likeness = embeddings[ids] @ embeddings[ids].T
    assert likeness[:10, :10].min() > 0.8
    assert likeness[10:, 10:].min() > 0.8
    assert likeness[:10, 10:].max() < 0.3
    assert not embeddings[tokenizer().vocab[WORDS[50]]].any()
    np.testing.assert_array_equal(embeddings, cooccurrence_embeddings(shards, tokenizer().vocab_size, 2, seed=2))


def test_log_frequencies_are_those_of_the_corpus_with_one_occurrence_more(shards):
    size = tokenizer().vocab_size
    tokens = np.concatenate([shards.tokens(shard) for shard in range(len(shards))])
    expected = [(np.sum(tokens == token) + 1) / (len(tokens) + size) for token in range(size)]
    np.testing.assert_allclose(np.exp(log_frequencies(shards, size)), expected, rtol=1e-5)
