"""Classes in two halves: one to tune on, the other to report on."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from lrcl.base import check_steps

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Half:
  """The rows of some of the classes, which are numbered anew from 0 on.

  Attributes:
    train: `inputs` and `labels`, as scenarios take them.
    test: as `train`.
    classes: what the labels 0, 1, ... were before, in order.
    data: a name of the data set; classes of one number in two data sets are
      not the same class.
  """

  train: Arrays
  test: Arrays
  classes: tuple[int, ...]
  data: str = ''


@dataclasses.dataclass(frozen=True, eq=False)
class Halves:
  """A data set in two parts that have no class in common.

  Attributes:
    tuning: the part on which settings are chosen.
    reporting: the part on which what was chosen is measured, once.
  """

  tuning: Half
  reporting: Half

  def __post_init__(self):
    both = set(self.tuning.classes) & set(self.reporting.classes)
    if both and self.tuning.data == self.reporting.data:
      raise ValueError(
        f'Halves: classes {sorted(both)} are in both parts; a setting that was '
        'tuned on a class cannot be reported on it.'
      )

  def swap(self) -> 'Halves':
    """The same with the parts exchanged, for a second opinion."""
    return Halves(self.reporting, self.tuning)


def halve_classes(
  train: Arrays,
  test: Arrays,
  *,
  num_classes: int | None = None,
  seed: int | None = 0,
  tuning_classes: Sequence[int] | None = None,
) -> Halves:
  """Deals the classes of a data set out into a tuning and a reporting half.

  What is tuned on a scenario fits that scenario, the learning rate and its
  schedule first of all. The two halves have scenarios of the same shape, and
  nothing that the second one measures has been seen.

  Args:
    train: `dict(inputs=[N, ...], labels=[N])` of numpy arrays.
    test: as `train`.
    num_classes: number of classes, an even one; None: the largest label + 1.
    seed: draws the halves; None: the lower numbers are for tuning.
    tuning_classes: the classes to tune on, instead of a draw; half of them.

  Returns:
    The halves; in each, classes are numbered from 0 on in ascending order.

  Raises:
    ValueError: if the number of classes is odd, one of them has no rows in
      `train` or `test`, or `tuning_classes` is not half of them.

  Example:
    >>> data = {'inputs': np.arange(8.0)[:, None], 'labels': np.arange(8) % 4}
    >>> halves = halve_classes(data, data, seed=None)
    >>> halves.tuning.classes, halves.reporting.classes
    ((0, 1), (2, 3))
    >>> halves.reporting.train['labels'].tolist()
    [0, 1, 0, 1]

  References:
    Cha and Cho, `Hyperparameters in Continual Learning: A Reality Check
    <https://arxiv.org/abs/2403.09066>`_, 2025
  """
  where = 'halve_classes'
  labels = np.asarray(train['labels'])
  count = int(labels.max(initial=-1)) + 1
  if num_classes is not None:
    count = check_steps(where, 'num_classes', num_classes, 2)
  if count % 2 or not count:
    raise ValueError(
      f'{where}: {count} classes do not divide into two halves; leave one out.'
    )
  for name, data in (('train', train), ('test', test)):
    missing = set(range(count)) - set(np.asarray(data['labels']).tolist())
    if missing:
      raise ValueError(f'{where}: {name} has no rows of classes {missing}.')
  first = _choose(where, count, seed, tuning_classes)
  second = tuple(c for c in range(count) if c not in first)
  return Halves(*(_take(train, test, part) for part in (first, second)))


def _choose(
  where: str,
  count: int,
  seed: int | None,
  tuning_classes: Sequence[int] | None,
) -> tuple[int, ...]:
  if tuning_classes is not None:
    chosen = sorted({int(c) for c in tuning_classes})
    inside = all(0 <= c < count for c in chosen)
    if len(chosen) != count // 2 or not inside:
      raise ValueError(
        f'{where}: tuning_classes is {list(tuning_classes)}; it must be '
        f'{count // 2} different classes from 0 to {count - 1}.'
      )
    return tuple(chosen)
  order = np.arange(count)
  if seed is not None:
    order = np.random.default_rng(seed).permutation(count)
  return tuple(sorted(int(c) for c in order[: count // 2]))


def _take(train: Arrays, test: Arrays, classes: tuple[int, ...]) -> Half:
  def part(data: Arrays) -> dict[str, np.ndarray]:
    labels = np.asarray(data['labels'])
    rows = np.isin(labels, classes)
    found = {name: np.asarray(column)[rows] for name, column in data.items()}
    found['labels'] = np.searchsorted(classes, labels[rows]).astype(np.int32)
    return found

  return Half(part(train), part(test), classes)
