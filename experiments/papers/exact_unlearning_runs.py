"""A stream in which rows come and are asked back, and what is left of it."""

from collections.abc import Callable, Sequence
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers.images import Images
from lrcl import models

SLOTS = 128
CLASSES = 10
_REQUEST = 64

Head = Any
"""`(init, change, kernel)` with `change(state, x, labels, weight, sign)`."""


class Events(NamedTuple):
  """Rows that come or are taken out, batch by batch.

  Attributes:
    rows: `[events, SLOTS]`.
    weight: `[events, SLOTS]`, 0 where a batch is smaller.
    sign: `[events]`, 1 for learning and -1 for unlearning.
    left: weight of each row in the end `[rows of the set]`, 0 or 1.
  """

  rows: np.ndarray
  weight: np.ndarray
  sign: np.ndarray
  left: np.ndarray


def arrivals(labels: np.ndarray, seed: int) -> Events:
  """Batches of 1 to 128 rows of any class; a third is followed by a request.

  A request takes out 1 to 64 rows of those that are there. In the end a whole
  class, drawn too, is taken out.
  """
  rng = np.random.default_rng(seed)
  waiting = list(rng.permutation(len(labels)))
  present: set[int] = set()
  events = []

  def put(rows, sign):
    rows = [int(row) for row in rows]
    (present.update if sign > 0 else present.difference_update)(rows)
    events.append((rows, sign))

  while waiting:
    size = int(rng.integers(1, SLOTS + 1))
    batch, waiting = waiting[:size], waiting[size:]
    put(batch, 1)
    if rng.random() < 1 / 3:
      size = min(int(rng.integers(1, _REQUEST + 1)), len(present))
      put(rng.choice(sorted(present), size, replace=False), -1)
  gone = rng.integers(CLASSES)
  rest = [row for row in sorted(present) if labels[row] == gone]
  for start in range(0, len(rest), SLOTS):
    put(rest[start : start + SLOTS], -1)
  return _pack(events, present, len(labels))


def _pack(events: list, present: set[int], count: int) -> Events:
  pad = lambda x: np.pad(x, (0, SLOTS - len(x)))
  left = np.zeros(count, np.float32)
  left[sorted(present)] = 1
  return Events(
    np.stack([pad(np.array(rows, int)) for rows, _ in events]),
    np.stack([pad(np.ones(len(r), np.float32)) for r, _ in events]),
    np.array([sign for _, sign in events], np.float32),
    left,
  )


def sums_form(features: int, ridge: float) -> Head:
  """`lrcl.models.analytic_ridge`: sums, solved when they are read."""
  head = models.analytic_ridge(features, CLASSES, ridge)

  def change(state, x, labels, weight, sign):
    learn = lambda: head.update(state, x, labels, weight)
    forget = lambda: head.unlearn(state, x, labels, weight)
    return jax.lax.cond(sign > 0, learn, forget)

  return head.init, change, lambda state: head.readout(state)['kernel']


def recursive_form(features: int, ridge: float) -> Head:
  """The papers' recursion on the inverse, by Woodbury's identity."""

  def init():
    inverse = jnp.eye(features, dtype=float) / ridge
    return inverse, jnp.zeros((features, CLASSES), float)

  def change(state, x, labels, weight, sign):
    inverse, kernel = state
    weight = weight.astype(inverse.dtype)[:, None]
    x = x.astype(inverse.dtype) * weight
    targets = jax.nn.one_hot(labels, CLASSES, dtype=x.dtype) * weight
    sign = sign.astype(x.dtype)
    lifted = inverse @ x.T
    inner = jnp.eye(len(x), dtype=x.dtype) + sign * (x @ lifted)
    inverse = inverse - sign * lifted @ jnp.linalg.solve(inner, lifted.T)
    step = inverse @ (x.T @ (targets - x @ kernel))
    return inverse, kernel + sign * step

  return init, change, lambda state: state[1]


FORMS = {'sums': sums_form, 'recursion': recursive_form}


class Gap(NamedTuple):
  """What separates a stream with requests from training on what is left.

  Attributes:
    kernel: largest difference of kernels over the largest entry.
    predictions: how many test rows are told apart differently.
    accuracy: after the requests, on test rows of the classes that are left.
    retrained: of the kernel that never saw the rows.
  """

  kernel: float
  predictions: int
  accuracy: float
  retrained: float


def measure(
  form: str, sets: Images, ridge: float, seeds: Sequence[int], *, double: bool
) -> list[Gap]:
  """Streams of several seeds in one form and one precision.

  The reference is solved in float64 from the rows that are left.
  """
  x, labels = sets.train['inputs'], sets.train['labels']
  with jax.enable_x64(double):
    stream = jax.jit(_streamer(FORMS[form](x.shape[1], ridge)))
    args = jnp.asarray(x), jnp.asarray(labels)
    plans = [arrivals(labels, seed) for seed in seeds]
    found = [np.asarray(stream(*args, *_padded(plan))) for plan in plans]
  return [
    _compare(kernel, retrain(x, labels, plan.left, ridge), plan, sets)
    for kernel, plan in zip(found, plans, strict=True)
  ]


def _padded(plan: Events) -> tuple[Any, ...]:
  """Events without rows at the end, so that all seeds share a program."""
  count = 2 * (len(plan.left) // (SLOTS // 2) + CLASSES)
  more = count - len(plan.sign)
  pad = lambda x: np.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1))
  return pad(plan.rows), pad(plan.weight), pad(plan.sign), len(plan.sign)


def _streamer(head: Head) -> Callable[..., jax.Array]:
  init, change, kernel = head

  def run(x, labels, rows, weight, sign, count):
    def event(i, state):
      taken = (x[rows[i]], labels[rows[i]], weight[i], sign[i])
      return change(state, *taken)

    return kernel(jax.lax.fori_loop(0, count, event, init()))

  return run


def retrain(
  x: np.ndarray, labels: np.ndarray, left: np.ndarray, ridge: float
) -> np.ndarray:
  """The kernel of the rows that are left, by numpy in float64."""
  x = x[left > 0].astype(np.float64)
  targets = np.eye(CLASSES)[labels[left > 0]]
  gram = x.T @ x + ridge * np.eye(x.shape[1])
  return np.linalg.solve(gram, x.T @ targets)


def _compare(
  kernel: np.ndarray, wanted: np.ndarray, plan: Events, sets: Images
) -> Gap:
  seen = np.isin(np.arange(CLASSES), sets.train['labels'][plan.left > 0])
  x, labels = sets.test['inputs'], sets.test['labels']
  guess = lambda k: np.where(seen, x.astype(k.dtype) @ k, -np.inf).argmax(1)
  ours, theirs = guess(kernel), guess(wanted)
  rows = seen[labels]
  score = lambda said: float((said == labels)[rows].mean())
  return Gap(
    float(np.abs(kernel - wanted).max() / np.abs(wanted).max()),
    int((ours != theirs).sum()),
    score(ours),
    score(theirs),
  )


def cost_ratio(sets: Images, ridge: float, *, repeats: int = 5) -> float:
  """Time of a request of 64 rows over that of training on what is left.

  Both end with the solution of the system; the least of several times counts.
  """
  x, labels = (jnp.asarray(sets.train[k]) for k in ('inputs', 'labels'))
  head = models.analytic_ridge(x.shape[1], CLASSES, ridge)
  whole = jax.jit(head.update)(head.init(), x, labels)
  request = x[:_REQUEST], labels[:_REQUEST]
  forget = jax.jit(lambda *r: head.readout(head.unlearn(whole, *r))['kernel'])
  again = jax.jit(lambda *r: head.readout(head.update(head.init(), *r)))
  rest = x[_REQUEST:], labels[_REQUEST:]
  times = [_least(lambda: forget(*request), repeats)]
  times.append(_least(lambda: again(*rest), repeats))
  return times[0] / times[1]


def _least(call: Callable[[], Any], repeats: int) -> float:
  times = []
  for _ in range(repeats + 1):  # the first compiles
    began = time.perf_counter()
    jax.block_until_ready(call())
    times.append(time.perf_counter() - began)
  return min(times[1:])
