"""The laws of what is gathered step by step, and its use inside a scan."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import metrics
from tests.metrics import twins

TASKS, WINDOW, ROWS = 3, 4, 9


class Case(NamedTuple):
  """A stretch in parts, and what a slow loop makes of the whole."""

  empty: Any
  parts: Sequence[Any]
  wanted: Any


def _series(rng):
  """Accuracies `[rows, T]` of few levels, so that sums are exact."""
  return rng.integers(0, 9, (ROWS, TASKS)) / 8


def _ends(rng):
  """The rows at which tasks end, the last row among them, and who ends."""
  count = int(rng.integers(1, TASKS + 1))
  rows = sorted(rng.choice(ROWS - 1, count - 1, replace=False).tolist())
  rows = [*rows, ROWS - 1]
  return rows, [rows.index(n) if n in rows else -1 for n in range(ROWS)]


def _change(rng):
  a = _series(rng)
  parts = [metrics.RunningChange.of(jnp.asarray(r, 'f'), WINDOW) for r in a]
  wanted = (
    twins.windowed_forgetting(a, WINDOW),
    twins.windowed_plasticity(a, WINDOW),
  )
  return Case(metrics.RunningChange.empty(TASKS, WINDOW), parts, wanted)


def _minimum(rng):
  a, (rows, ended) = _series(rng), _ends(rng)
  of = metrics.RunningMinimum.of
  parts = [of(jnp.asarray(r, 'f'), n) for r, n in zip(a, ended, strict=True)]
  wanted = twins.min_accuracy(a, rows), twins.worst_case_accuracy(a, rows)
  return Case(metrics.RunningMinimum.empty(TASKS), parts, wanted)


def _gap(rng):
  a, (rows, ended) = _series(rng), _ends(rng)
  of = metrics.RunningGap.of
  parts = [of(jnp.asarray(r, 'f'), n) for r, n in zip(a, ended, strict=True)]
  gap = twins.stability_gap(a, rows)
  later = np.full(TASKS - len(rows), np.nan)  # switches that are not over
  wanted = tuple(np.append(gap[name], later) for name in ('drop', 'depth'))
  return Case(metrics.RunningGap.empty(TASKS), parts, wanted)


def _recovery(rng):
  a, (rows, ended) = _series(rng), _ends(rng)
  clock = np.cumsum(rng.integers(1, 50, ROWS)).tolist()
  room = {'evaluations': ROWS - 1}  # the first task's end needs none
  of = lambda row, step, end: metrics.RunningRecovery.of(
    jnp.asarray(row, 'f'), step, end, **room
  )
  parts = [of(*x) for x in zip(a, clock, ended, strict=True)]
  found = twins.stability_gap(a, rows, clock)['recovery_steps']
  wanted = np.append(found, np.full(TASKS - len(rows), np.nan))
  return Case(metrics.RunningRecovery.empty(TASKS, **room), parts, wanted)


def _matrix(rng):
  a, (rows, ended) = _series(rng), _ends(rng)
  of = metrics.RunningMatrix.of
  parts = [of(jnp.asarray(r, 'f'), n) for r, n in zip(a, ended, strict=True)]
  wanted = np.full((TASKS, TASKS), np.nan)
  for task, row in enumerate(rows):
    wanted[task] = a[row]
  return Case(metrics.RunningMatrix.empty(TASKS), parts, wanted)


def _classes(rng):
  a = _series(rng) * (rng.random(TASKS) < 0.5)
  parts = [metrics.RunningClasses.of(jnp.asarray(r, 'f')) for r in a]
  wanted = twins.class_forgetting(a)
  return Case(metrics.RunningClasses.empty(TASKS), parts, wanted)


def _area(rng):
  a, samples = _series(rng)[:, 0], np.cumsum(rng.integers(1, 50, ROWS))
  of = lambda x, seen: metrics.RunningArea.of(jnp.float32(x), int(seen))
  parts = [of(*pair) for pair in zip(a, samples, strict=True)]
  wanted = twins.area_under_accuracy(a, samples)
  return Case(metrics.RunningArea.empty(), parts, wanted)


def _mean(rng):
  """Three rows a part, of three groups; some weigh nothing, some are out."""
  values = rng.integers(0, 9, (ROWS, 3)).astype('f')
  weight = rng.integers(0, 3, (ROWS, 3)).astype('f')
  group = rng.integers(-1, 4, (ROWS, 3)).astype('i')
  empty = metrics.RunningMean.empty((3,))
  rows = zip(values, weight, group, strict=True)
  parts = [empty.update(*map(jnp.asarray, row)) for row in rows]
  wanted = []
  for i in range(3):
    mine = [
      (float(v), float(w))
      for v, w, g in zip(values.flat, weight.flat, group.flat, strict=True)
      if g == i
    ]
    total = sum(w for _, w in mine)
    wanted.append(sum(v * w for v, w in mine) / total if total else np.nan)
  return Case(empty, parts, np.array(wanted))


MONOIDS: dict[str, Callable[[np.random.Generator], Case]] = {
  'RunningArea': _area,
  'RunningChange': _change,
  'RunningClasses': _classes,
  'RunningGap': _gap,
  'RunningMatrix': _matrix,
  'RunningMean': _mean,
  'RunningMinimum': _minimum,
  'RunningRecovery': _recovery,
}

_merge = jax.jit(lambda first, second: first.merge(second))


def _same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _cut(parts, rng):
  """Merges neighbours in a random bracketing, order kept."""
  parts = list(parts)
  while len(parts) > 1:
    at = int(rng.integers(len(parts) - 1))
    parts[at : at + 2] = [_merge(parts[at], parts[at + 1])]
  return parts[0]


@pytest.mark.parametrize('name', MONOIDS)
def test_laws(name):
  @settings(max_examples=25, deadline=None)
  @given(st.integers(0, 2**31))
  def check(seed):
    rng = np.random.default_rng(seed)
    empty, parts, wanted = MONOIDS[name](rng)
    cuts = sorted(rng.choice(ROWS + 1, 2).tolist())
    a, b, c = (
      _cut([empty, *parts[i:j]], rng)
      for i, j in zip([0, *cuts], [*cuts, ROWS], strict=True)
    )
    _same(_merge(_merge(a, b), c), _merge(a, _merge(b, c)))  # associative
    _same(_merge(empty, a), a)  # a unit, left and right
    _same(_merge(a, empty), a)
    whole = _cut(parts, rng)
    _same(whole, _merge(_merge(a, b), c))  # however it is cut
    got = jax.tree.leaves(whole.compute())
    for x, y in zip(got, jax.tree.leaves(wanted), strict=True):
      np.testing.assert_allclose(x, y, rtol=1e-6)

  check()


@pytest.mark.parametrize('name', MONOIDS)
def test_inside_a_scan_under_jit(name):
  """The carry keeps shapes and dtypes, and the scan gives what the loop did."""
  cases = [MONOIDS[name](np.random.default_rng(seed)) for seed in (0, 1)]

  @jax.jit
  def run(empty, parts):
    merge = lambda carry, part: (carry.merge(part), None)
    whole, _ = jax.lax.scan(merge, empty, parts)
    return whole.compute()

  stack = lambda *xs: jnp.stack([jnp.asarray(x) for x in xs])
  several = [jax.tree.map(stack, *case.parts) for case in cases]
  for parts, case in zip(several, cases, strict=True):
    got = jax.tree.leaves(run(case.empty, parts))
    for x, y in zip(got, jax.tree.leaves(case.wanted), strict=True):
      np.testing.assert_allclose(x, y, rtol=1e-6)
  # One run beside the other.
  both = jax.vmap(run, (None, 0))(cases[0].empty, jax.tree.map(stack, *several))
  for x, y in zip(
    jax.tree.leaves(both), jax.tree.leaves(cases[1].wanted), strict=True
  ):
    np.testing.assert_allclose(x[1], y, rtol=1e-6)


def test_nothing_yet_is_undefined():
  nan = [metrics.RunningArea.empty(), metrics.RunningClasses.empty(2)]
  assert all(np.isnan(running.compute()) for running in nan)
  assert np.isnan(metrics.RunningMatrix.empty(2).compute()).all()
  one = metrics.RunningClasses.of(jnp.array([0.5, 1.0]))
  assert np.isnan(one.compute())  # one evaluation, as for the function


def test_recovery_without_room_is_nan():
  rows = np.array([[0.9, 0], [0.4, 0.5], [0.8, 0.7], [0.8, 0.8]], 'f')

  def measure(room):
    running = metrics.RunningRecovery.empty(2, evaluations=room)
    for step, (row, end) in enumerate(zip(rows, (0, -1, -1, 1), strict=True)):
      part = metrics.RunningRecovery.of(row, step, end, evaluations=room)
      running = running.merge(part)
    return float(running.compute()[0])

  assert measure(3) == 2 and np.isnan(measure(2))


def test_a_task_that_ends_twice_keeps_the_last_row():
  of = metrics.RunningMatrix.of
  twice = of(jnp.array([0.5, 0.0]), 0).merge(of(jnp.array([0.75, 0.5]), 0))
  np.testing.assert_array_equal(twice.compute()[0], [0.75, 0.5])
  assert np.isnan(twice.compute()[1]).all()


def test_a_training_loop_measures_itself():
  """Accuracy, matrix, area, norms and ratios of a run, inside its own scan."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 16, 4)), 'f')  # two tasks
  y = jnp.asarray(rng.integers(0, 2, (2, 16)), jnp.int32)
  tx, steps, batch = optax.sgd(0.1, momentum=0.9), 20, 16
  params = {'w': jnp.zeros((4, 2)), 'b': jnp.ones(2)}
  logits = lambda p, x: x @ p['w'] + p['b'][None]
  loss = lambda p, x, y: optax.softmax_cross_entropy_with_integer_labels(
    logits(p, x), y
  ).mean()

  def evaluate(p):
    right = jnp.argmax(jax.vmap(logits, (None, 0))(p, x), -1) == y
    return right.astype(jnp.float32).mean(-1)

  def step(carry, i):
    (p, opt), (matrix, area, change, norm, ratio) = carry
    task = i // 10
    grads = jax.grad(loss)(p, x[task], y[task])
    updates, opt = tx.update(grads, opt, p)
    ratios = metrics.update_to_weight_ratio(updates, p)
    ratios = jnp.stack(jax.tree.leaves(ratios))
    p = optax.apply_updates(p, updates)
    accuracy, size = evaluate(p), metrics.weight_norm(p)
    ended = jnp.where(i % 10 == 9, task, -1)
    running = (
      matrix.merge(metrics.RunningMatrix.of(accuracy, ended)),
      area.merge(metrics.RunningArea.of(accuracy.mean(), (i + 1) * batch)),
      change.merge(metrics.RunningChange.of(accuracy, 5)),
      norm.update(size),
      # A weight that is still 0 has no ratio: it weighs nothing.
      ratio.update(ratios, jnp.isfinite(ratios).astype(jnp.float32)),
    )
    return ((p, opt), running), (accuracy, size, ratios)

  empty = (
    metrics.RunningMatrix.empty(2),
    metrics.RunningArea.empty(),
    metrics.RunningChange.empty(2, 5),
    metrics.RunningMean.empty(),
    metrics.RunningMean.empty(),
  )
  run = jax.jit(lambda carry, i: jax.lax.scan(step, carry, i))
  (_, running), (accuracy, size, ratios) = run(
    ((params, tx.init(params)), empty), jnp.arange(steps, dtype=jnp.int32)
  )
  matrix, area, change, norm, ratio = (part.compute() for part in running)
  accuracy, ratios = np.asarray(accuracy), np.asarray(ratios)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5)
  np.testing.assert_array_equal(matrix, accuracy[[9, 19]])
  close(metrics.forgetting(matrix), twins.forgetting(accuracy[[9, 19]]))
  close(area, accuracy.mean())
  close(change[0], twins.windowed_forgetting(accuracy, 5))
  close(norm, np.mean(np.float64(size)))
  assert np.isnan(ratios[0]).sum() == 1  # of the weights that began at 0
  close(ratio, np.nanmean(np.float64(ratios)))
