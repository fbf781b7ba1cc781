"""SI, EWC++ and RWalk against slow twins in numpy, float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, tree
from lrcl.methods import _gathering

RATE, STRENGTH = 0.05, 3.0
TASKS = (0,) * 7 + (1,) * 6 + (2,) * 5 + (0,) * 4
SLOPES = np.random.default_rng(0).normal(size=(3, 4, 4))
TARGETS = np.random.default_rng(1).normal(size=(3, 4))
FORMS = ('coupled', 'decoupled', 'implicit')


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def loss(params, task):
  """One quadratic a task, `|A x - b|^2 / 2`, over two leaves."""
  x = jnp.concatenate([params['a'], params['b']])
  slope, target = (jnp.asarray(y, jnp.float32) for y in (SLOPES, TARGETS))
  return jnp.sum(jnp.square(slope[task] @ x - target[task])) / 2


def twin_gradient(x, task):
  return SLOPES[task].T @ (SLOPES[task] @ x - TARGETS[task])


START = {'a': jnp.array([1.0, -1.0]), 'b': jnp.array([0.5, 0.2])}


def flat(params):
  return np.concatenate([np.asarray(params['a']), np.asarray(params['b'])])


def make(name, form='coupled', inner=None, **kwargs):
  if inner is None:
    inner = optax.chain(
      optax.scale_by_adam(), methods.scale_by_schedule_value(RATE)
    )
  return getattr(methods, name)(inner, STRENGTH, form=form, **kwargs)


def run(tx, tasks=TASKS, params=START):
  """All steps as one program; returns parameters and state."""

  def step(carry, task):
    params, state = carry
    grads = jax.grad(loss)(params, task)
    updates, state = tx.update(grads, state, params, task_id=task)
    return (optax.apply_updates(params, updates), state), None

  tasks = jnp.asarray(tasks, jnp.int32)
  scan = jax.jit(lambda c: jax.lax.scan(step, c, tasks)[0])
  return scan((params, tx.init(params)))


def run_singly(tx, tasks):
  """The same, one operation after another."""
  params, state = START, tx.init(START)
  for task in tasks:
    grads = jax.grad(loss)(params, task)
    updates, state = tx.update(grads, state, params, task_id=task)
    params = optax.apply_updates(params, updates)
  return params, state


def twin_run(twin, form, tasks=TASKS):
  """The same with explicit loops: Adam and the penalty by their formulas."""
  x = flat(START).astype(np.float64)
  m, v = np.zeros(4), np.zeros(4)
  last = None
  for i, task in enumerate(tasks, start=1):
    if last is not None and task != last:
      twin.end_task(x)
    last = task
    g = twin_gradient(x, task)
    away = STRENGTH * twin.importance * (x - twin.anchor)
    total = g + away if form == 'coupled' else g
    m, v = 0.9 * m + 0.1 * total, 0.999 * v + 0.001 * total**2
    step = m / (1 - 0.9**i) / (np.sqrt(v / (1 - 0.999**i)) + 1e-8) * -RATE
    if form == 'decoupled':
      step = step - RATE * away
    elif form == 'implicit':
      stiff = RATE * STRENGTH * twin.importance
      step = (x + step + stiff * twin.anchor) / (1 + stiff) - x
    twin.observe(x, g, step)
    x = x + step
  return x


class Synaptic:
  """Keeps the whole path of the task and integrates it at its end."""

  def __init__(self, damping=0.1):
    self.importance, self.anchor = np.zeros(4), flat(START)
    self.damping, self.points = damping, []

  def observe(self, x, g, step):
    self.points.append((g, step))

  def end_task(self, x):
    saved = -np.sum([g * step for g, step in self.points], axis=0)
    distance = (x - self.anchor) ** 2
    self.importance += np.maximum(saved, 0) / (distance + self.damping)
    self.anchor, self.points = x.copy(), []


class Moving:
  """The average of squares, from its definition as a weighted sum."""

  def __init__(self, decay=0.9):
    self.importance, self.anchor = np.zeros(4), flat(START)
    self.decay, self.squares = decay, []

  def observe(self, x, g, step):
    self.squares.append(g**2)

  def fisher(self, count=None):
    squares = self.squares[:count]
    age = np.arange(len(squares))[::-1]
    weights = (1 - self.decay) * self.decay**age
    weights[0] = self.decay ** age[0]
    return weights @ np.array(squares)

  def end_task(self, x):
    self.importance, self.anchor = self.fisher(), x.copy()


class Walk(Moving):
  """Scores over windows that are cut out of the stored path."""

  def __init__(self, every=3, damping=1e-3):
    super().__init__()
    self.every, self.damping = every, damping
    self.points, self.scores, self.begin = [], [], 0

  def observe(self, x, g, step):
    super().observe(x, g, step)
    self.points.append((x.copy(), g, step))

  def end_task(self, x):
    task = self.points[self.begin :]
    score = np.zeros(4)
    for i in range(0, len(task), self.every):
      window = task[i : i + self.every]
      stop = window[-1][0] + window[-1][2]
      saved = -np.sum([g * step for _, g, step in window], axis=0)
      fisher = self.fisher(self.begin + i + len(window))
      moved = fisher * (stop - window[0][0]) ** 2
      score += np.maximum(saved, 0) / (moved + self.damping)
    self.scores.append(score)
    mean = self.scores[0]
    for score in self.scores[1:]:
      mean = (mean + score) / 2
    scaled = [(y - y.min()) / np.ptp(y) for y in (self.fisher(), mean)]
    self.importance, self.anchor = sum(scaled), x.copy()
    self.begin = len(self.points)


METHODS = {
  'synaptic_intelligence': ({}, Synaptic),
  'ewc_plus_plus': ({}, Moving),
  'riemannian_walk': ({'every': 3}, Walk),
}
each = pytest.mark.parametrize('name', METHODS)
close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5)


@each
@pytest.mark.parametrize('form', FORMS)
def test_against_the_twin(name, form):
  kwargs, make_twin = METHODS[name]
  twin = make_twin()
  params, state = run(make(name, form, **kwargs))
  expected = twin_run(twin, form)
  assert np.ptp(twin.importance) > 0.1  # three tasks have left their mark
  close(flat(state.importance), twin.importance)
  close(flat(state.anchor), twin.anchor)
  close(flat(params), expected)
  if name != 'synaptic_intelligence':
    close(flat(state.fisher), twin.fisher())


@pytest.mark.parametrize('every', [1, 4, 50])
def test_windows_of_the_walk(every):
  """Longer than a task, too: a task's end closes its window."""
  twin = Walk(every)
  _, state = run(make('riemannian_walk', every=every))
  twin_run(twin, 'coupled')
  close(flat(state.importance), twin.importance)


def test_path_integral_is_the_loss_that_was_saved():
  """To first order in the rate: half of it leaves half of the error."""
  errors = []
  for rate, steps in ((2e-3, 50), (1e-3, 100)):
    inner = methods.scale_by_schedule_value(rate)
    tx = make('synaptic_intelligence', inner=inner)
    params, state = run(tx, (0,) * steps)
    saved = float(loss(START, 0) - loss(params, 0))
    errors.append(abs(flat(state.path).sum() - saved) / saved)
  assert errors[0] < 0.03
  assert 0.4 < errors[1] / errors[0] < 0.6


def test_damping_bounds_what_did_not_move():
  tx = make('synaptic_intelligence', damping=0.5, inner=optax.sgd(0.0))
  _, state = run(tx)
  np.testing.assert_array_equal(flat(state.importance), 0.0)
  state = state._replace(path=jax.tree.map(lambda x: x + 2.0, state.path))
  state = methods.consolidate(state, state.anchor)
  np.testing.assert_array_equal(flat(state.importance), 4.0)


def test_what_raised_the_loss_has_no_importance():
  climb = methods.scale_by_schedule_value(-RATE)
  _, state = run(make('synaptic_intelligence', inner=climb), (0, 0, 1))
  np.testing.assert_array_equal(flat(state.importance), 0.0)


def test_normalized_fisher():
  _, state = run(make('ewc_plus_plus', normalize=True))
  importance = flat(state.importance)
  assert importance.min() == 0.0 and importance.max() == pytest.approx(1.0)
  _, flat_state = run(make('ewc_plus_plus', normalize=True), (0, 0))
  same = flat_state._replace(fisher=jax.tree.map(jnp.ones_like, START))
  same = same.consolidate(START)
  np.testing.assert_array_equal(flat(same.importance), 0.0)


@each
def test_a_call_from_outside_ends_the_task_once(name):
  """What the change of task_id would do a moment later changes nothing."""
  tx = make(name, **METHODS[name][0])
  first, rest = TASKS[:7], TASKS[7:9]

  def two_parts(consolidates):
    params, state = run(tx, first)
    if consolidates:
      state = methods.consolidate(state, params, fisher=params)
    grads = jax.grad(loss)(params, rest[0])
    return tx.update(grads, state, params, task_id=jnp.int32(rest[0]))

  check = functools.partial(np.testing.assert_allclose, rtol=1e-6)
  jax.tree.map(check, two_parts(True), two_parts(False))


@each
def test_a_constant_task_is_never_held(name):
  inner = methods.scale_by_schedule_value(RATE)
  # Not as one program each, which XLA need not round alike.
  params, state = run_singly(make(name, inner=inner), (5,) * 6)
  plain, _ = run_singly(optax.with_extra_args_support(inner), (5,) * 6)
  jax.tree.map(np.testing.assert_array_equal, params, plain)
  np.testing.assert_array_equal(flat(state.importance), 0.0)
  np.testing.assert_array_equal(flat(state.anchor), flat(START))


@each
@pytest.mark.parametrize('form', FORMS)
def test_mask(name, form):
  """The leaf that is left out takes the step of the bare optimizer."""
  inner = methods.scale_by_schedule_value(RATE)
  tx = make(name, form, inner=inner, mask=tree.path_mask('a'))
  state = tx.init(START)
  assert isinstance(state.importance['b'], optax.MaskedNode)
  params = START
  for task in (0, 0, 1, 1):
    grads = jax.grad(loss)(params, task)
    updates, state = tx.update(grads, state, params, task_id=task)
    bare = -jnp.float32(RATE) * grads['b']
    np.testing.assert_allclose(updates['b'], bare, rtol=1e-6)
    params = optax.apply_updates(params, updates)
  assert np.all(state.importance['a'] >= 0) and state.importance['a'].any()


@each
def test_derivative_by_the_strength(name):
  """Forwards, as hyper-gradients need it, against a difference."""

  def end(strength):
    inner = methods.scale_by_schedule_value(RATE)
    tx = getattr(methods, name)(inner, strength)
    return loss(run(tx, TASKS[:14])[0], 0)

  value = jnp.float32(STRENGTH)
  _, slope = jax.jvp(end, (value,), (jnp.ones_like(value),))
  step = 0.05
  difference = (end(value + step) - end(value - step)) / (2 * step)
  np.testing.assert_allclose(slope, difference, rtol=0.02)
  assert abs(float(slope)) > 1e-4


@each
@pytest.mark.parametrize(
  ('kwargs', 'match'),
  [
    ({'strength': -1.0}, 'strength is -1'),
    ({'form': 'late'}, "form is 'late'"),
    ({'mask': tree.path_mask('nothing')}, 'matches none'),
    ({'form': 'implicit'}, 'needs the rate'),
    ({'form': 'decoupled'}, 'needs the rate'),
  ],
)
def test_errors(name, kwargs, match):
  kwargs = {'strength': 1.0} | kwargs
  with pytest.raises(ValueError, match=f'{name}: .*{match}'):
    getattr(methods, name)(optax.adam(0.1), **kwargs).init(START)


@pytest.mark.parametrize(
  ('name', 'kwargs', 'match'),
  [
    ('synaptic_intelligence', {'damping': 0.0}, 'damping is 0.0'),
    ('ewc_plus_plus', {'decay': 1.5}, 'decay is 1.5'),
    ('riemannian_walk', {'decay': -0.1}, 'decay is -0.1'),
    ('riemannian_walk', {'every': 0}, 'every is 0'),
    ('riemannian_walk', {'every': 2.5}, 'every is 2.5'),
    ('riemannian_walk', {'damping': -1.0}, 'damping is -1'),
  ],
)
def test_errors_of_one_method(name, kwargs, match):
  with pytest.raises(ValueError, match=f'{name}: {match}'):
    make(name, **kwargs)


@each
def test_parameters_are_asked_for(name):
  tx = make(name)
  with pytest.raises(ValueError, match=f'{name}: params is None'):
    tx.update(START, tx.init(START), task_id=0)


@pytest.mark.parametrize('task_id', [0, 7, -3, 2**31 - 1, -(2**31)])
def test_a_path_is_added_once_whatever_the_task_is_called(task_id):
  add = jax.jit(_gathering.add_path)
  path, gradient, step = (jnp.array([x, 2 * x]) for x in (1.0, 3.0, -0.5))
  new, same = add(path, gradient, step, jnp.int32(task_id))
  np.testing.assert_array_equal(new, [2.5, 8.0])
  np.testing.assert_array_equal(same, step)


def test_a_path_is_added_to_each_seed_by_itself():
  ones = jnp.ones([3, 2])
  tasks = jnp.array([0, -2, 5])
  new, _ = jax.vmap(_gathering.add_path)(
    ones, ones, -tasks[:, None] * ones, tasks
  )
  np.testing.assert_array_equal(new, 1 + tasks[:, None] * np.ones([3, 2]))
