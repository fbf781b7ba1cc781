"""From text to tokens and back: bytes, or pairs of them that were learned."""

from collections.abc import Iterable
import dataclasses
import functools
import json
from typing import Any, Protocol

import numpy as np

from lrcl.base import check_steps

_BYTES = 256
_NEEDED = (
  '{}: the package tokenizers is not installed; run: pip install tokenizers'
)


class Tokenizer(Protocol):
  """Text to tokens and back, without loss.

  Its tokens are numbers below `vocab_size`. The last of them, `end_token`, is
  in no text: it stands behind each document, see `token_windows`.
  """

  @property
  def vocab_size(self) -> int:
    """Number of different tokens, the one that ends a document included."""
    ...

  @property
  def end_token(self) -> int:
    """The token that ends a document: the last one."""
    ...

  def encode(self, text: str) -> np.ndarray:
    """The tokens of a text, without an end token, in the smallest dtype."""
    ...

  def decode(self, tokens: Any) -> str:
    """The text of tokens `[n]`, without those that end a document."""
    ...

  def to_json(self) -> str:
    """All of it as one string, which `load_tokenizer` reads."""
    ...


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
  """The bytes of UTF-8, and a token that ends a document; `byte_tokenizer`."""

  @property
  def vocab_size(self) -> int:
    """257."""
    return _BYTES + 1

  @property
  def end_token(self) -> int:
    """256."""
    return _BYTES

  def encode(self, text: str) -> np.ndarray:
    """The bytes of a text, uint16."""
    return np.frombuffer(text.encode(), np.uint8).astype(np.uint16)

  def decode(self, tokens: Any) -> str:
    """The text of bytes; what is cut through within a character becomes U+FFFD.

    Raises:
      ValueError: if a number is no token.
    """
    return bytes(_without_ends(self, tokens).tolist()).decode(errors='replace')

  def to_json(self) -> str:
    """One line of JSON."""
    return json.dumps({'model': {'type': 'Bytes'}})


@dataclasses.dataclass(frozen=True)
class PairTokenizer:
  """Byte pairs that were learned; made by `train_tokenizer`.

  Attributes:
    definition: the JSON of the package `tokenizers`. Equal definitions make
      equal tokenizers.
  """

  definition: str

  @property
  def vocab_size(self) -> int:
    """Number of different tokens, the one that ends a document included."""
    return self.end_token + 1

  @property
  def end_token(self) -> int:
    """The token that ends a document, behind those of the definition."""
    return self._tokenizer.get_vocab_size()

  @property
  def _dtype(self) -> np.dtype:
    return np.min_scalar_type(self.end_token)

  def encode(self, text: str) -> np.ndarray:
    """The tokens of a text, in the smallest unsigned dtype that holds them."""
    found = self._tokenizer.encode(text, add_special_tokens=False)
    return np.array(found.ids, self._dtype)

  def decode(self, tokens: Any) -> str:
    """The text of tokens; what is cut through within a character is U+FFFD.

    Raises:
      ValueError: if a number is no token.
    """
    kept = _without_ends(self, tokens).tolist()
    return self._tokenizer.decode(kept, skip_special_tokens=False)

  def to_json(self) -> str:
    """The definition."""
    return self.definition

  @functools.cached_property
  def _tokenizer(self) -> Any:
    return _import('PairTokenizer').Tokenizer.from_str(self.definition)


def byte_tokenizer() -> ByteTokenizer:
  """Text as its UTF-8 bytes: 256 tokens, and 256 itself ends a document.

  It needs no training and no package, and it holds every text.

  Example:
    >>> tokenizer = byte_tokenizer()
    >>> tokenizer.encode('né').tolist(), tokenizer.vocab_size
    ([110, 195, 169], 257)
    >>> tokenizer.decode([110, 195, 169, 256])
    'né'

  References:
    Xue et al., `ByT5: Towards a Token-Free Future with Pre-trained
    Byte-to-Byte Models <https://arxiv.org/abs/2105.13626>`_, 2021
  """
  return ByteTokenizer()


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PairTokenizer:
  """Learns which pairs of bytes become one token, by how often they occur.

  Bytes are merged within words (GPT-2's pattern), so every text can be encoded
  and comes back as it was. The result depends on how often each word occurs
  and on nothing else: there is no seed, and the order of the texts does not
  matter.

  A tokenizer that has seen the test texts is fitted to them. For a stream over
  time, train it on the texts of the first period, or on text from elsewhere.

  Args:
    texts: what it learns from.
    vocab_size: number of tokens, at least 257: the 256 bytes and the token that
      ends a document. Fewer result where no pair is left to merge.

  Returns:
    The tokenizer; the package `tokenizers` reads its `definition` as well.

  Raises:
    ImportError: if the package `tokenizers` is missing.
    TypeError: if a text is not a string.
    ValueError: if `vocab_size` is too small.

  Example:
    >>> tokenizer = train_tokenizer(['the theory of the thing'] * 3, 260)
    >>> [tokenizer.decode([token]) for token in tokenizer.encode('the thing')]
    ['th', 'e', ' th', 'i', 'n', 'g']
    >>> load_tokenizer(tokenizer.to_json()) == tokenizer
    True

  References:
    Sennrich, Haddow and Birch, `Neural Machine Translation of Rare Words with
    Subword Units <https://arxiv.org/abs/1508.07909>`_, 2016

    Radford et al., `Language models are unsupervised multitask learners
    <https://github.com/openai/gpt-2>`_, 2019 (pairs of bytes)
  """
  where = 'train_tokenizer'
  vocab_size = check_steps(where, 'vocab_size', vocab_size, _BYTES + 1)
  package = _import(where)
  learned = package.Tokenizer(package.models.BPE())
  split = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
  learned.pre_tokenizer = split
  learned.decoder = package.decoders.ByteLevel()
  trainer = package.trainers.BpeTrainer(
    vocab_size=vocab_size - 1,
    initial_alphabet=sorted(split.alphabet()),
    show_progress=False,
  )
  learned.train_from_iterator(check_texts(where, texts), trainer)
  return PairTokenizer(learned.to_str())


def load_tokenizer(definition: str) -> Tokenizer:
  """Reads a tokenizer from the string that its `to_json` gave.

  Any `tokenizer.json` of the package `tokenizers` is read too. Only byte-level
  ones, such as that of GPT-2, give every text back as it was.

  Args:
    definition: JSON.

  Raises:
    ImportError: if it needs the package `tokenizers`, which is missing.
    ValueError: if it is not the JSON of a tokenizer.

  Example:
    >>> load_tokenizer(byte_tokenizer().to_json())
    ByteTokenizer()
  """
  where = 'load_tokenizer'
  try:
    kind = json.loads(definition)['model']['type']
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise ValueError(
      f'{where}: definition begins with {str(definition)[:40]!r}; it must be '
      'what to_json of a tokenizer gives.'
    ) from error
  if kind == 'Bytes':
    return ByteTokenizer()
  package = _import(where)
  try:
    package.Tokenizer.from_str(definition)
  except Exception as error:  # the package raises a bare Exception
    raise ValueError(f'{where}: definition does not load: {error}') from error
  return PairTokenizer(definition)


def check_texts(where: str, texts: Iterable[str]) -> list[str]:
  """The texts as a list; refuses anything but strings."""
  if isinstance(texts, str):
    raise TypeError(f'{where}: texts is one string; give a list of strings.')
  found = list(texts)
  for number, text in enumerate(found):
    if not isinstance(text, str):
      raise TypeError(
        f'{where}: text {number} is {type(text).__name__}; it must be a string.'
      )
  return found


def _import(where: str) -> Any:
  try:
    import tokenizers
  except ImportError as error:
    raise ImportError(_NEEDED.format(where)) from error
  return tokenizers


def _without_ends(tokenizer: Tokenizer, tokens: Any) -> np.ndarray:
  tokens = np.asarray(tokens, np.int64).ravel()
  wrong = (tokens < 0) | (tokens >= tokenizer.vocab_size)
  if wrong.any():
    raise ValueError(
      f'decode: {tokens[wrong][0]} is no token; they run from 0 to '
      f'{tokenizer.end_token}.'
    )
  return tokens[tokens != tokenizer.end_token]
