"""Windows of tokens: what a language model reads, and what it predicts."""

from collections.abc import Iterable

import numpy as np

from lrcl.base import check_steps
from lrcl.streams._tokenizers import Tokenizer, check_texts


def token_windows(
  texts: Iterable[str], tokenizer: Tokenizer, length: int
) -> dict[str, np.ndarray]:
  """Cuts texts into windows of equal length, each token predicted once.

  The documents in their order make one row of tokens: an end token, and then
  each document with an end token behind it. Window i reads the tokens from
  `i * length` on and predicts those one place further. So:

  * every token of every document, its end included, is a label exactly once;
    the first one is predicted from the end token before it.
  * a window may run from one document into the next, with an end token between
    them. What must not share a window (two periods, training and test) is cut
    by a call of its own.
  * the last window is left out where it would be short: fewer than `length`
    labels are lost in all. Nothing is padded.

  Args:
    texts: documents; empty ones are an end token each.
    tokenizer: `byte_tokenizer()`, what `train_tokenizer` makes, or any other
      `Tokenizer`.
    length: tokens in a window.

  Returns:
    `inputs` and `labels`, both `[windows, length]`, uint16 for up to 65,536
    different tokens. There are no windows where the texts are too short.

  Raises:
    TypeError: if a text is not a string.
    ValueError: if `length` is not positive.

  Example:
    >>> from lrcl.streams import byte_tokenizer
    >>> windows = token_windows(['abcd', 'efg'], byte_tokenizer(), 3)
    >>> windows['inputs'].tolist()
    [[256, 97, 98], [99, 100, 256], [101, 102, 103]]
    >>> windows['labels'].tolist()
    [[97, 98, 99], [100, 256, 101], [102, 103, 256]]
  """
  where = 'token_windows'
  length = check_steps(where, 'length', length, 1)
  end = np.array([tokenizer.end_token], np.min_scalar_type(tokenizer.end_token))
  parts = [end]
  for text in check_texts(where, texts):
    parts += [tokenizer.encode(text).astype(end.dtype, copy=False), end]
  tokens = np.concatenate(parts)
  used = (len(tokens) - 1) // length * length
  return {
    'inputs': tokens[:used].reshape(-1, length),
    'labels': tokens[1 : used + 1].reshape(-1, length),
  }
