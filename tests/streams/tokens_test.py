"""Tokenizers and windows: nothing is lost, nothing depends on the day."""

import json
import random
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrcl.streams import (
  byte_tokenizer,
  load_tokenizer,
  token_windows,
  train_tokenizer,
)

_TEXTS = ['The cat sat on the mat.', 'A naïve café; the théâtre!', 'the the']
_WORDS = st.text(st.characters(exclude_categories=['Cs']), max_size=40)
_QUICK = settings(max_examples=40, deadline=None)


@pytest.fixture(scope='module', params=['bytes', 'pairs'])
def tokenizer(request):
  if request.param == 'bytes':
    return byte_tokenizer()
  return train_tokenizer(_TEXTS * 5, 290)


@_QUICK
@given(text=_WORDS)
def test_every_text_comes_back(tokenizer, text):
  tokens = tokenizer.encode(text)
  assert tokens.dtype == np.uint16
  assert (tokens < tokenizer.end_token).all()
  assert tokenizer.decode(tokens) == text
  again = load_tokenizer(tokenizer.to_json())
  np.testing.assert_array_equal(again.encode(text), tokens)


def test_bytes_are_those_of_utf_8():
  tokens = byte_tokenizer().encode('aé€')
  assert tokens.tolist() == [97, 195, 169, 226, 130, 172]
  assert byte_tokenizer().decode(tokens[:2]) == 'a�'
  assert (byte_tokenizer().vocab_size, byte_tokenizer().end_token) == (257, 256)


def test_pairs_are_the_most_frequent_ones():
  # By hand: of 'abab' x 4 and 'bc' x 3, the pair ab occurs 8 times, then abab 4
  # times, then bc 3 times; no other pair is left.
  tokenizer = train_tokenizer(['abab'] * 4 + ['bc'] * 3, 260)
  pieces = lambda text: [tokenizer.decode([t]) for t in tokenizer.encode(text)]
  assert tokenizer.vocab_size == 260
  assert pieces('abababc') == ['abab', 'ab', 'c']
  assert pieces('bca') == ['bc', 'a']
  assert train_tokenizer(['ab'] * 9, 1000).vocab_size == 258


def test_training_depends_on_the_words_alone():
  rng = random.Random(0)
  words = [''.join(rng.choices('abcde', k=4)) for _ in range(300)]
  texts = [' '.join(rng.choices(words, k=30)) for _ in range(40)]
  first = train_tokenizer(texts, 400)
  assert first.vocab_size == 400
  assert all(train_tokenizer(texts, 400) == first for _ in range(3))
  assert train_tokenizer(reversed(texts), 400) == first
  assert first.to_json() == json.dumps(
    json.loads(first.to_json()), ensure_ascii=False, separators=(',', ':')
  )
  assert hash(first) == hash(load_tokenizer(first.to_json()))


def test_what_looks_like_a_special_token_is_text(tokenizer):
  text = '<|endoftext|> <unk> [CLS]'
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_end_tokens_are_left_out(tokenizer):
  tokens = [*tokenizer.encode('ab'), tokenizer.end_token]
  assert tokenizer.decode(tokens) == 'ab'
  for bad in (-1, tokenizer.vocab_size):
    with pytest.raises(ValueError, match=f'{bad} is no token; they run from 0'):
      tokenizer.decode([bad])


@_QUICK
@given(texts=st.lists(_WORDS, max_size=6), length=st.integers(1, 9))
def test_every_token_is_predicted_once(tokenizer, texts, length):
  windows = token_windows(iter(texts), tokenizer, length)
  end = tokenizer.end_token
  row = [end]
  for text in texts:  # an independent and slow way to write the rule down
    row += [int(token) for token in tokenizer.encode(text)] + [end]
  inputs, labels = windows['inputs'], windows['labels']
  assert inputs.shape == labels.shape == ((len(row) - 1) // length, length)
  assert inputs.dtype == labels.dtype == np.uint16
  for i, (read, predicted) in enumerate(zip(inputs, labels, strict=True)):
    assert read.tolist() == row[i * length : (i + 1) * length]
    assert predicted.tolist() == row[i * length + 1 : (i + 1) * length + 1]
  assert 0 <= len(row) - 1 - labels.size < length


def test_windows_of_one_token_give_the_texts_back(tokenizer):
  labels = token_windows(_TEXTS, tokenizer, 1)['labels'].ravel()
  parts = np.split(labels, np.flatnonzero(labels == tokenizer.end_token) + 1)
  assert [tokenizer.decode(part) for part in parts[:-1]] == _TEXTS
  assert not len(parts[-1])


def test_large_vocabularies_take_wider_tokens():
  class Wide:
    vocab_size, end_token = 70_001, 70_000
    encode = staticmethod(lambda text: np.arange(len(text)) + 65_000)

  windows = token_windows(['abc'], Wide(), 2)  # pyright: ignore
  assert windows['inputs'].tolist() == [[70_000, 65_000], [65_001, 65_002]]
  assert windows['inputs'].dtype == windows['labels'].dtype == np.uint32


@pytest.mark.parametrize(
  'error, message, call',
  [
    (TypeError, 'texts is one string', lambda: train_tokenizer('abc', 300)),
    (TypeError, 'text 1 is bytes', lambda: train_tokenizer(['a', b'b'], 300)),
    (ValueError, 'vocab_size is 256', lambda: train_tokenizer(['a'], 256)),
    (ValueError, 'length is 0', lambda: token_windows([], byte_tokenizer(), 0)),
    (
      TypeError,
      'token_windows: text 0 is int',
      lambda: token_windows([3], byte_tokenizer(), 2),  # pyright: ignore
    ),
    (ValueError, "begins with 'x'", lambda: load_tokenizer('x')),
    (ValueError, 'to_json', lambda: load_tokenizer('{}')),
    (
      ValueError,
      'does not load',
      lambda: load_tokenizer('{"model": {"type": "BPE"}}'),
    ),
  ],
)
def test_errors(error, message, call):
  with pytest.raises(error, match=message):
    call()


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  with pytest.raises(ImportError, match=r'train_tokenizer.*pip install token'):
    train_tokenizer(['a'], 300)
  assert byte_tokenizer().encode('a').tolist() == [97]
