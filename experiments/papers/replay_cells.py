"""The settings in which claims on replay are measured: data, passes, memory."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.papers import claims, sequences
from experiments.papers.images import Images, Name, load_images
from lrcl import streams

NUM_TASKS, BATCH = 5, 16
FEATURES = (100, 100)
TUNING_SEEDS = (100, 101, 102)

TITLES = {
  'digits': 'digits',
  'mnist': 'Split-MNIST',
  'fashion_mnist': 'Split-Fashion-MNIST',
}
_ROWS = {'digits': None, 'mnist': 10_000, 'fashion_mnist': 10_000}
_TEST_ROWS = {'digits': None, 'mnist': 2_000, 'fashion_mnist': 2_000}


class Cell(NamedTuple):
  """One setting.

  Attributes:
    name: of the images.
    passes: over the rows of each task.
    capacity: rows that the memory holds.
  """

  name: Name
  passes: int
  capacity: int

  @property
  def label(self) -> str:
    """The setting in a few words."""
    passes = 'one pass' if self.passes == 1 else f'{self.passes} passes'
    return f'{TITLES[self.name]}, memory {self.capacity}, {passes}'


class Data(NamedTuple):
  """The images of a cell, and how long a task is.

  Attributes:
    images: what to train and to test on.
    steps_per_task: steps of `BATCH` rows.
  """

  images: Images
  steps_per_task: int

  def stream(self, seeds: Sequence[int]) -> streams.Stream:
    """Two classes in each of five tasks, one stream for each seed."""
    return sequences.split_stream(
      self.images,
      seeds,
      num_tasks=NUM_TASKS,
      steps_per_task=self.steps_per_task,
      batch_size=BATCH,
    )

  def references(
    self, rates: Sequence[float], seeds: Sequence[int]
  ) -> dict[str, sequences.Reference]:
    """The rows of every comparison."""
    return sequences.reference_rows(
      self.images,
      FEATURES,
      rates=rates,
      tuning_seeds=TUNING_SEEDS,
      seeds=seeds,
      num_tasks=NUM_TASKS,
      steps_per_task=self.steps_per_task,
      batch_size=BATCH,
    )


def load(cell: Cell, data_dir: str | None) -> Data:
  """Reads the images of a cell."""
  images = load_images(
    cell.name,
    data_dir,
    train_rows=_ROWS[cell.name],
    test_rows=_TEST_ROWS[cell.name],
  )
  rows = len(images.train['labels']) // NUM_TASKS
  return Data(images, cell.passes * -(-rows // BATCH))


def reference_lines(
  label: str, rows: Mapping[str, sequences.Reference]
) -> list[dict[str, Any]]:
  """Lines of a table, with the columns that every contender has."""
  return [
    line(label, name, row.accuracy, row.setting or '-')
    for name, row in rows.items()
  ]


def line(label: str, name: str, accuracy: Any, setting: str) -> dict[str, Any]:
  """One line of a table."""
  return {
    'setting': label,
    'contender': name,
    'accuracy': claims.format_interval(accuracy),
    'tuned': setting,
  }


def describe(seeds: Sequence[int], rates: Sequence[float]) -> str:
  """What all cells have in common, in words."""
  return (
    f'Class-incremental, {NUM_TASKS} tasks of two classes in an order of each '
    f'seed; digits (1,400 rows), and 10,000 rows of each of the larger sets; '
    f'MLP {"-".join(map(str, FEATURES))}, SGD in batches of {BATCH}, as many '
    'replayed rows; accuracy over all ten classes at the end. Constant rates '
    f'from {rates[0]:g} to {rates[-1]:g}, tuned on seeds {TUNING_SEEDS[0]} to '
    f'{TUNING_SEEDS[-1]} for each contender; reported on seeds {seeds[0]} to '
    f'{seeds[-1]}. '
  )
