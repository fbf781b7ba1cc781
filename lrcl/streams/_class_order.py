"""In which order to meet the classes: distances, a score and a designer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lrcl.base import check_steps


class ClassDistances(NamedTuple):
  """How classes lie to each other in some space of features.

  Attributes:
    between: `[C, C]`, distances of the classes' means, each row summing to 1;
      0 on the diagonal.
    spread: `[C]`, how much the distances of each class vary, summing to 1.
  """

  between: np.ndarray
  spread: np.ndarray


def class_distances(
  features: npt.ArrayLike, labels: npt.ArrayLike
) -> ClassDistances:
  """Cosine distances between the mean features of the classes.

  Args:
    features: `[rows, d]`, of a frozen network, or the inputs themselves.
    labels: `[rows]`, classes from 0 on, each with at least one row.

  Raises:
    ValueError: if shapes do not fit, a class has no rows or a mean vanishes, or
      there are fewer than two classes.

  Example:
    >>> class_distances([[1, 0], [0, 1], [1, 1]], [0, 1, 2]).between.round(2)
    array([[0.  , 0.77, 0.23],
           [0.77, 0.  , 0.23],
           [0.5 , 0.5 , 0.  ]])

  References:
    The Curriculum Designer, see `class_order_score`.
  """
  where = 'class_distances'
  rows, labels = np.asarray(features, np.float64), np.asarray(labels)
  if rows.ndim != 2 or labels.shape != rows.shape[:1]:
    raise ValueError(
      f'{where}: features have shape {rows.shape} and labels {labels.shape}; '
      'they must be [rows, d] and [rows].'
    )
  count = int(labels.max(initial=-1)) + 1
  present = np.unique(labels)
  if count < 2 or not np.array_equal(present, np.arange(count)):
    raise ValueError(
      f'{where}: the classes are {present.tolist()}; there must be at least '
      'two, numbered from 0 on without a gap.'
    )
  means = np.stack([rows[labels == c].mean(0) for c in range(count)])
  norms = np.linalg.norm(means, axis=1)
  if not norms.all():
    raise ValueError(
      f'{where}: the mean of class {int(np.argmin(norms))} is 0; it has no '
      'direction.'
    )
  unit = means / norms[:, None]
  between = np.clip(1 - unit @ unit.T, 0.0, None)
  np.fill_diagonal(between, 0.0)
  totals = between.sum(1, keepdims=True)
  between = np.divide(between, totals, where=totals > 0, out=0 * between)
  spread = between.var(1)
  total = spread.sum()
  spread = spread / total if total > 0 else np.full(count, 1 / count)
  return ClassDistances(between, spread)


def class_order_score(distances: ClassDistances, order: Sequence[int]) -> float:
  """How well an order of the classes follows the Curriculum Designer's rule.

  The first class varies little; the next ones lie far from the class before,
  the last ones near to it. `1 - spread` of the first class, and then for the
  current class and the slots from both ends `distance` to the next one plus
  `1 - distance` to the last one that is free, until all slots are counted.

  Args:
    distances: of the classes, from `class_distances`.
    order: every class once.

  Returns:
    The score; larger is better.

  Raises:
    ValueError: if `order` is not every class once.

  Example:
    >>> distances = class_distances(np.eye(3) + 0.1, [0, 1, 2])
    >>> round(class_order_score(distances, [0, 1, 2]), 3)
    1.667

  References:
    Singh et al., 2022, `Learning to Learn: How to Continuously Teach Humans and
    Machines <https://arxiv.org/abs/2211.15470>`_ (the scorer of the authors'
    code, whose generator keeps the first class as the current one; here both
    move on)
  """
  order = _check_order(distances, order)
  size, current = len(order), order[0]
  score, counted = 1 - distances.spread[current], 1
  for step in range(1, size):
    last, following = order[size - step], order[step]
    score += 1 - distances.between[current, last]
    score += distances.between[current, following]
    counted, current = counted + 2, following
    if counted >= size:
      break
  return float(score)


def design_class_order(
  distances: ClassDistances, first: int | None = None
) -> list[int]:
  """An order by the Curriculum Designer's rule, filled from both ends.

  Begins with the class that varies least. In turns, the class that lies
  farthest from the current one comes next, and the one that lies nearest goes
  to the last free place.

  Args:
    distances: of the classes, from `class_distances`.
    first: the class to begin with, instead.

  Returns:
    Every class once: `class_order` of `split`.

  Raises:
    ValueError: if `first` is no class.

  Example:
    >>> distances = class_distances([[1, 0], [0, 1], [1, 1]], [0, 1, 2])
    >>> design_class_order(distances, first=0)
    [0, 1, 2]

  References:
    See `class_order_score`.
  """
  count = len(distances.spread)
  if first is None:
    first = int(np.argmin(distances.spread))
  elif check_steps('design_class_order', 'first', first) >= count:
    raise ValueError(
      f'design_class_order: first is {first}; there are {count} classes.'
    )
  front, back = [first], []
  left = [label for label in range(count) if label != first]
  while left:
    current = front[-1]
    near = min(left, key=lambda label: distances.between[current, label])
    far = max(left, key=lambda label: distances.between[current, label])
    front.append(far)
    left.remove(far)
    if near in left:
      back.append(near)
      left.remove(near)
  return front + back[::-1]


def _check_order(distances: ClassDistances, order: Sequence[int]) -> list[int]:
  found, count = [int(label) for label in order], len(distances.spread)
  if sorted(found) != list(range(count)):
    raise ValueError(
      f'class_order_score: order is {found}; it must have each of the {count} '
      'classes once.'
    )
  return found
