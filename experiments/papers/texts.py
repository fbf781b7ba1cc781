"""Real text without a download: the Python sources of installed packages."""

from collections.abc import Iterator
import importlib.metadata
import importlib.util
import pathlib

import numpy as np

VOCABULARY = 128
"""Tokens are bytes; those of other alphabets count as a question mark."""


def read_sources(package: str, max_bytes: int | None = None) -> np.ndarray:
  """The .py files of an installed package as one row of tokens.

  Files come in the order of their paths, without tests, joined by a blank
  line, so one version of the package gives one row.

  Args:
    package: an importable name, such as 'optax'.
    max_bytes: how much of it; None is all.

  Returns:
    uint8 `[bytes]`, each below `VOCABULARY`.

  Raises:
    ImportError: if the package is not installed.
  """
  spec = importlib.util.find_spec(package)
  if spec is None or spec.origin is None:
    raise ImportError(f'read_sources: the package {package!r} is not there.')
  root = pathlib.Path(spec.origin).parent
  text = b'\n\n'.join(path.read_bytes() for path in _files(root))
  tokens = np.frombuffer(text, np.uint8)[:max_bytes]
  return np.where(tokens < VOCABULARY, tokens, ord('?')).astype(np.uint8)


def describe_sources(
  package: str, distribution: str, tokens: np.ndarray
) -> str:
  """A few words about a text: what it is, of which version, how long.

  Args:
    package: the importable name.
    distribution: the name by which it is installed, 'scikit-learn' say.
    tokens: what `read_sources` gave.
  """
  version = importlib.metadata.version(distribution)
  return (
    f'{len(tokens) / 1e6:.2f} MB of Python, the sources of {package} {version}'
  )


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
  for path in sorted(root.rglob('*.py')):
    if not any('test' in part for part in path.relative_to(root).parts):
      yield path
