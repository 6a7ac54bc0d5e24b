"""The tokenizer: texts to token ids and back, for `vocab.txt`, `spiece.model` and `tokenizer.json`."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bert4albert.batches.padding import pad
from bert4albert.errors import TokenizerError
from bert4albert.files import reading, writing
from bert4albert.text.vocabulary import Engine, is_redundant, load_engine, refuse_other_vocabulary, write_engine
from bert4albert.text.word_piece import WordPiece

Vocabulary = str | os.PathLike[str] | Sequence[str] | Mapping[str, int]


class Tokenizer:
    """Text to token ids and back, with exactly the ids that Google's BERT and ALBERT were trained on.

    A `tokenizer.json` gives the ids that `transformers` gives with it.

    Arguments:
        vocabulary: a `vocab.txt`, a SentencePiece `.model` file, a `tokenizer.json` of `transformers` (word pieces
            or Unigram), or a folder that holds one of them, of which that order decides; or the tokens themselves,
            as a list or as a dictionary of their ids.
        do_lower_case: whether to lower the case and drop accents. By default as the folder's
            `tokenizer_config.json` says, otherwise True, and for a `tokenizer.json` as it says itself.

    Raises `TokenizerError` if the vocabulary is missing, is not one, or lacks a token that every text needs.

    A tokenizer can be pickled, and used from several threads at once.

    Examples:
        >>> from bert4albert import Tokenizer
        >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "good"])
        >>> tokenizer.encode("今天 Good")
        ([2, 5, 6, 7, 3], [0, 0, 0, 0, 0])
        >>> tokenizer.tokenize("今天")
        ['[CLS]', '今', '天', '[SEP]']
        >>> tokenizer.decode([2, 5, 6, 3])
        '今天'
    """

    def __init__(self, vocabulary: Vocabulary, do_lower_case: bool | None = None) -> None:
        with reading(vocabulary):
            self._engine: Engine = load_engine(vocabulary, do_lower_case)

    def __repr__(self) -> str:
        kind = self._engine.file_name
        return f"<Tokenizer {kind}, {self.vocab_size} tokens, do_lower_case={self.do_lower_case}>"

    @property
    def do_lower_case(self) -> bool:
        """Whether texts are lower-cased and lose their accents."""
        return self._engine.do_lower_case

    @property
    def vocab(self) -> Mapping[str, int]:
        """The id of every token, read-only."""
        return MappingProxyType(self._engine.vocab)

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(self._engine.tokens)

    @property
    def digest(self) -> str:
        """A text that two tokenizers share only if they have the same tokens and treat case alike."""
        content = "\n".join([str(self.do_lower_case), *self._engine.vocab])
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()

    @property
    def pad_id(self) -> int:
        """The id that fills up short rows; models take 0 for padding."""
        return self._engine.vocab.get(self._engine.pad, 0)

    @property
    def unk_id(self) -> int:
        """The id of every unknown word."""
        return self._engine.vocab[self._engine.unk]

    @property
    def cls_id(self) -> int:
        """The id that begins every text, [CLS]."""
        return self._engine.vocab[self._engine.cls]

    @property
    def sep_id(self) -> int:
        """The id that ends every text, [SEP]."""
        return self._engine.vocab[self._engine.sep]

    @property
    def mask_id(self) -> int:
        """The id that hides a token in masked language modelling, [MASK]."""
        if self._engine.mask not in self._engine.vocab:
            raise TokenizerError("This vocabulary has no [MASK], which masked prediction needs: add it to vocab.txt.")
        return self._engine.vocab[self._engine.mask]

    def encode(
        self,
        text: str,
        second_text: str | None = None,
        maxlen: int | None = None,
        *,
        keep_special: bool | None = None,
    ) -> tuple[list[int], list[int]]:
        """Return the token ids and segment ids of one text, or of a pair of texts.

        Arguments:
            text: the text; its tokens come between [CLS] and [SEP], with segment 0.
            second_text: a second text; its tokens and another [SEP] follow, with segment 1.
            maxlen: the most ids to return. The longer text loses tokens from its end first.
            keep_special: whether "[MASK]" and the like, written in a text, are kept whole. By default they are
                split as any other text, as Google's tokenizer does; with a `tokenizer.json` they are kept, as
                `transformers` does, unless its config has `split_special_tokens`.

        Returns:
            `(token_ids, segment_ids)`, two lists of int of the same length. Raises `TokenizerError` if a text is not a
            string, or `maxlen` is too small.
        """
        second_texts = None if second_text is None else [second_text]
        token_ids, segment_ids = self.encode_many([text], second_texts, maxlen, keep_special=keep_special)
        return token_ids[0], segment_ids[0]

    def encode_many(
        self,
        texts: Iterable[str],
        second_texts: Iterable[str] | None = None,
        maxlen: int | None = None,
        *,
        keep_special: bool | None = None,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Return the token ids and segment ids of many texts, each as `encode` gives them.

        Arguments:
            texts: the texts.
            second_texts: as many second texts.
            maxlen: as in `encode`.
            keep_special: as in `encode`.

        Returns:
            `(token_ids, segment_ids)`, two lists of lists of int, not padded. Raises `TokenizerError` as in `encode`,
            and if there are not as many second texts as texts.
        """
        room = _room(maxlen, pair=second_texts is not None)
        firsts = self._engine.encode(_checked(texts), self._keeps(keep_special))
        if second_texts is None:
            token_ids = [[self.cls_id, *first[:room], self.sep_id] for first in firsts]
            return token_ids, [[0] * len(row) for row in token_ids]
        seconds = self._engine.encode(_checked(second_texts), self._keeps(keep_special))
        if len(firsts) != len(seconds):
            raise TokenizerError(f"Got {len(firsts)} texts and {len(seconds)} second texts: give as many of both.")
        token_ids, segment_ids = [], []
        for first, second in zip(firsts, seconds, strict=True):
            first_length, second_length = _kept_lengths(len(first), len(second), room)
            token_ids.append([self.cls_id, *first[:first_length], self.sep_id, *second[:second_length], self.sep_id])
            segment_ids.append([0] * (first_length + 2) + [1] * (second_length + 1))
        return token_ids, segment_ids

    def encode_batch(
        self,
        texts: Iterable[str],
        second_texts: Iterable[str] | None = None,
        maxlen: int | None = None,
        *,
        length: int | None = None,
        multiple: int = 1,
        keep_special: bool | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids and segment ids of many texts as two padded arrays.

        Arguments:
            texts: the texts.
            second_texts: as many second texts.
            maxlen: as in `encode`.
            length: the length to pad to; by default that of the longest row.
            multiple: round that length up to a multiple of this, so that few shapes are compiled.
            keep_special: as in `encode`.

        Returns:
            `(token_ids, segment_ids)`, two int32 arrays [batch, length]. Raises `TokenizerError` as in `encode_many`,
            and `DataError` if a row is longer than `length`.
        """
        token_ids, segment_ids = self.encode_many(texts, second_texts, maxlen, keep_special=keep_special)
        return (
            pad(token_ids, self.pad_id, length=length, multiple=multiple),
            pad(segment_ids, 0, length=length, multiple=multiple),
        )

    def tokenize(self, text: str, maxlen: int | None = None, *, keep_special: bool | None = None) -> list[str]:
        """Return the tokens of a text, [CLS] and [SEP] included; an unknown word keeps its spelling.

        Arguments:
            text: the text.
            maxlen: as in `encode`.
            keep_special: as in `encode`.

        Returns:
            A list of str, as long as the ids that `encode` gives. Raises `TokenizerError` as in `encode`.
        """
        room = _room(maxlen, pair=False)
        kept = self._engine.pieces(_checked([text])[0], self._keeps(keep_special))[:room]
        return [self._engine.cls, *(piece.token for piece in kept), self._engine.sep]

    def offsets(
        self,
        text: str,
        second_text: str | None = None,
        maxlen: int | None = None,
        *,
        keep_special: bool | None = None,
    ) -> list[tuple[int, int]]:
        """Return where each id of `encode`, called with the same arguments, stands in the original text.

        Arguments:
            text: the text.
            second_text: a second text.
            maxlen: as in `encode`.
            keep_special: as in `encode`.

        Returns:
            A list of `(start, end)`: `text[start:end]` is what the token was made of. Tokens of segment 1
            count in `second_text`. [CLS] and [SEP] have `(0, 0)`. Raises `TokenizerError` as in `encode`.
        """
        room = _room(maxlen, pair=second_text is not None)
        texts = _checked([text] if second_text is None else [text, second_text])
        keep = self._keeps(keep_special)
        spans = [[(piece.start, piece.end) for piece in self._engine.pieces(text, keep)] for text in texts]
        if second_text is None:
            return [(0, 0), *spans[0][:room], (0, 0)]
        first, second = spans
        first_length, second_length = _kept_lengths(len(first), len(second), room)
        return [(0, 0), *first[:first_length], (0, 0), *second[:second_length], (0, 0)]

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return readable text: special tokens left out, no spaces between Chinese characters.

        Arguments:
            token_ids: ids of one row, as ints or as an integer array [length].

        Returns:
            The text, as bert4keras writes it. Raises `TokenizerError` if an id is not in the vocabulary.
        """
        return self._engine.decode([self._checked_id(token_id) for token_id in token_ids])

    def token_to_id(self, token: str) -> int:
        """Return the id of a token, or `unk_id` if the vocabulary does not have it."""
        return self._engine.vocab.get(token, self.unk_id)

    def tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Return the ids of tokens, with `unk_id` for those that the vocabulary does not have."""
        return [self.token_to_id(token) for token in tokens]

    def id_to_token(self, token_id: int) -> str:
        """Return the token with this id; TokenizerError if there is none."""
        return self._engine.tokens[self._checked_id(token_id)]

    def ids_to_tokens(self, token_ids: Iterable[int]) -> list[str]:
        """Return the tokens with these ids; TokenizerError if one does not exist."""
        return [self.id_to_token(token_id) for token_id in token_ids]

    def simplify(
        self,
        texts: Iterable[str] | None = None,
        *,
        minimum_count: int = 1,
        first: Sequence[str] | None = None,
    ) -> tuple["Tokenizer", list[int]]:
        """Return a tokenizer with a smaller vocabulary, and the old ids of its tokens.

        Arguments:
            texts: keep only the tokens of these texts; they are then encoded as before. Without texts only
                tokens that no text can give are dropped: those of several characters with Chinese or punctuation.
            minimum_count: how often a token must occur in `texts` to be kept.
            first: tokens that are kept in any case and come first. By default [PAD], [UNK], [CLS], [SEP] and [MASK],
                as far as there are such.

        Returns:
            `(tokenizer, keep_tokens)`, for `build_model(..., keep_tokens=keep_tokens)`. Raises `TokenizerError` if this
            is not a `vocab.txt` tokenizer, or a token of `first` does not exist.
        """
        if not isinstance(self._engine, WordPiece):
            raise TokenizerError(
                f"The vocabulary of a {self._engine.file_name} cannot be cut down: "
                "only the word pieces of a vocab.txt can. Use it whole."
            )
        vocab, engine = self._engine.vocab, self._engine
        if first is None:
            special = (engine.pad, engine.unk, engine.cls, engine.sep, engine.mask)
            first = [token for token in special if token in vocab]
        missing = [token for token in first if token not in vocab]
        if missing:
            raise TokenizerError(
                f"The vocabulary has no {missing[0]!r}, which first={list(first)} asks for: leave it out."
            )
        if texts is None:
            wanted = {token for token in vocab if not is_redundant(token)}
        else:
            counts = Counter(chain.from_iterable(engine.encode(_checked(texts), keep_special=False)))
            wanted = {engine.tokens[index] for index, count in counts.items() if count >= minimum_count}
        tokens = [*first, *sorted(wanted.difference(first), key=vocab.__getitem__)]
        return Tokenizer(tokens, self.do_lower_case), [vocab[token] for token in tokens]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the vocabulary and `tokenizer_config.json`, so that `Tokenizer(folder)` is this one again.

        Arguments:
            folder: made if it does not exist.

        Raises `TokenizerError` if the folder holds a vocabulary of the other kind, or cannot be written.
        """
        with writing(folder, checks=[self.check_target], error=TokenizerError) as new:
            self.write_files(new)

    def write_files(self, folder: Path) -> None:
        """Write the files of `save` into a folder that is being filled with others, all of one set."""
        write_engine(self._engine, folder)

    def check_target(self, new: Path, folder: Path) -> None:
        """Raise `TokenizerError` where `folder` holds a vocabulary of the other kind than the new files."""
        refuse_other_vocabulary(new, folder)

    def write_hugging_face_files(self, folder: Path, max_length: int | None, keep_special: bool) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` as `transformers` reads them, into a folder of new files.

        Arguments:
            folder: where to write.
            max_length: the most tokens that the model takes.
            keep_special: Whether "[MASK]" and the like, written in a text, are to be kept whole there.
        """
        from bert4albert.text.hugging_face import hugging_face_files

        for name, content in hugging_face_files(self._engine, max_length, keep_special).items():
            (folder / name).write_bytes(content)

    def _keeps(self, keep_special: bool | None) -> bool:
        return self._engine.keeps_special if keep_special is None else keep_special

    def _checked_id(self, token_id: int) -> int:
        if not 0 <= token_id < self.vocab_size:
            raise TokenizerError(
                f"There is no token with id {token_id}: the vocabulary has {self.vocab_size}, from 0 on. "
                "Was the text encoded with another vocabulary?"
            )
        return int(token_id)


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str | bytes):
        raise TokenizerError("Expected a list of texts, got a single one: use encode(text), or put it in a list.")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TokenizerError(
                f"Text {index} is {text!r} ({type(text).__name__}), expected a str: "
                "drop empty cells, and decode bytes, before encoding."
            )
    return texts


def _room(maxlen: int | None, pair: bool) -> int | None:
    """Return how many tokens fit between the special ones, or None for any number."""
    if maxlen is None:
        return None
    special, texts = (3, "two texts") if pair else (2, "a text")
    if isinstance(maxlen, bool) or not isinstance(maxlen, int | np.integer) or maxlen < special + 1:
        raise TokenizerError(
            f"maxlen={maxlen!r} has no room for {texts}: [CLS] and [SEP] take {special} places. "
            f"Use an integer of {special + 1} or more."
        )
    return int(maxlen) - special


def _kept_lengths(first: int, second: int, room: int | None) -> tuple[int, int]:
    """Return how many tokens of a pair are kept: the longer text loses one at a time, the first one on a tie."""
    if room is None or first + second <= room:
        return first, second
    half = room // 2
    if first <= half:
        return first, room - first
    if second <= room - half:
        return room - second, second
    return half, room - half
