"""Any data set of TFDS, with no TensorFlow installed."""

import contextlib
import functools
import hashlib
import os
from typing import Any
import zipfile

import numpy as np

from lrcl.streams._items import ExampleFn, ItemSource, PickColumns
from lrcl.streams._sources import RESIDENT_BYTES, Source


def from_tfds(
  name: str,
  split: str,
  *,
  data_dir: str | os.PathLike | None = None,
  inputs: str = 'image',
  labels: str = 'label',
  example_fn: ExampleFn | None = None,
  resident_bytes: int = RESIDENT_BYTES,
  cache: bool = True,
) -> Source:
  """Reads a prepared TFDS data set as the `train` or `test` of a scenario.

  What fits `resident_bytes` is decoded once, into arrays; anything larger
  stays on disk and is read by random access, chunk by chunk. Both give the
  same batches, bit for bit. Nothing is ever downloaded.

  Args:
    name: as in TFDS: `'mnist'`, `'cifar100'`, `'my_data/config:1.0.0'`.
    split: as in TFDS: `'train'`, `'test'`, `'train[:10%]'`.
    data_dir: where the data are; None: TFDS's own default.
    inputs: which feature becomes `inputs`.
    labels: which feature becomes `labels`.
    example_fn: makes `{'inputs': ..., 'labels': ...}` of one decoded example,
      instead of `inputs` and `labels`; for images of several sizes.
    resident_bytes: up to this size the rows are held in memory.
    cache: whether the decoded arrays are kept beside the data set
      (`lrcl-*.npz`), where it may be written to. Decoding 60,000 small images
      takes some 20 seconds, reading them back a fraction of one.

  Returns:
    `dict(inputs=[N, ...], labels=[N])` or an `ItemSource`. Images are uint8.

  Raises:
    FileNotFoundError: if the data set is not there in a form with random
      access; says how to get it.
    ValueError: if it has no such split or feature.

  Example:
    >>> from_tfds('mnist', 'train', data_dir='/nowhere')
    Traceback (most recent call last):
    FileNotFoundError: ...
  """
  builder = _find_builder(name, data_dir)
  if split.split('[')[0] not in builder.info.splits:
    raise ValueError(
      f'from_tfds: {name} has no split {split!r}; it has '
      f'{sorted(builder.info.splits)}.'
    )
  items = builder.as_data_source(split=split)
  if not len(items):
    raise ValueError(f'from_tfds: split {split!r} of {name} is empty.')
  if example_fn is None:
    missing = {inputs, labels} - set(items[0])
    if missing:
      raise ValueError(
        f'from_tfds: {name} has no feature {sorted(missing)[0]!r}; it has '
        f'{sorted(items[0])}; see the arguments inputs and labels.'
      )
    read_labels = functools.partial(
      _read_labels, builder, split, inputs, labels
    )
    columns = f'{split}|{inputs}|{labels}'.encode()
    cached = f'lrcl-{hashlib.sha256(columns).hexdigest()[:16]}.npz'
  else:
    read_labels, cached = None, ''  # a function's code has no fingerprint
  source = ItemSource(
    items,
    example_fn or PickColumns(inputs, labels),
    f'tfds {builder.info.full_name} {split}',
    read_labels,
  )
  row = sum(column.nbytes for column in source.rows(np.arange(1)).values())
  if row * len(source) > resident_bytes:
    return source
  folder = os.fspath(builder.data_dir)
  usable = cache and cached and os.path.isdir(folder)
  return _decoded(source, os.path.join(folder, cached) if usable else None)


def _find_builder(name: str, data_dir: Any) -> Any:
  import tensorflow_datasets as tfds

  where = None if data_dir is None else os.fspath(data_dir)
  try:
    builder = tfds.builder(name, data_dir=where, try_gcs=False)
  except (tfds.core.DatasetNotFoundError, FileNotFoundError):
    builder = None
  if builder is not None and builder.is_prepared() and _random_access(builder):
    return builder
  place = where or os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  raise FileNotFoundError(
    f'from_tfds: {name} is not in {place} as array_record. Either run: '
    f'python -m experiments.fetch_data {place} {name} (mnist and '
    'fashion_mnist, no TensorFlow needed), or, on a machine with a network '
    f'and TensorFlow: tfds.builder({name!r}, data_dir={place!r}, '
    "file_format='array_record').download_and_prepare()."
  )


def _random_access(builder: Any) -> bool:
  return str(builder.info.file_format.value) in ('array_record', 'parquet')


def _read_labels(
  builder: Any, split: str, inputs: str, labels: str
) -> np.ndarray:
  """All labels, without decoding the inputs."""
  import tensorflow_datasets as tfds

  skip = {inputs: tfds.decode.SkipDecoding()}
  items = builder.as_data_source(split=split, decoders=skip)
  source = ItemSource(items, lambda example: {'labels': example[labels]})
  return source.arrays()['labels']


def _decoded(source: ItemSource, path: str | None) -> dict[str, np.ndarray]:
  """All rows, from the file `path` if a former call left them there."""
  if path is not None and os.path.exists(path):
    try:
      with open(path, 'rb') as file, np.load(file) as kept:
        return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
      pass  # damaged: made anew
  arrays = source.arrays()
  if path is not None:
    _write(path, arrays)
  return arrays


def _write(path: str, arrays: dict[str, np.ndarray]) -> None:
  """Saves arrays with one rename; does without where it may not write."""
  scratch = f'{path}.{os.getpid()}.part'
  try:
    with open(scratch, 'wb') as file:
      np.savez(file, allow_pickle=False, **arrays)
    os.replace(scratch, path)
  except OSError:
    with contextlib.suppress(OSError):
      os.unlink(scratch)
