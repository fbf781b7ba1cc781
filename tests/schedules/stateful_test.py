"""One battery for all schedules with a state; a new one is one more row."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from lrcl import base, schedules, tree

TASKS = (0, 0, 0, 0, 1, 1, 0, 0)
LOSSES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.65, 0.66, 0.67, 0.68)
FRAMES = np.arange(5.0)
SAME = np.abs(FRAMES[:, None] - FRAMES[None])
STUCK = np.abs(np.minimum(FRAMES, 1.0)[:, None] - FRAMES[None])


@dataclasses.dataclass(frozen=True)
class Case:
  """A schedule, what it is told step by step, and what it must answer.

  Attributes:
    fn: makes the schedule.
    record: its arguments, as a record holds them.
    told: the extra args that it needs, one entry per step.
    golden: its value at each step; of a scalar of the loop, after the update.
    traced: the arguments by which it must have a finite gradient.
  """

  fn: Callable[..., Any]
  record: Mapping[str, Any]
  told: Mapping[str, Any]
  golden: Sequence[float]
  traced: tuple[str, ...] = ()

  def make(self, **kwargs: Any) -> Any:
    record = {'name': self.fn.__name__, 'kwargs': {**self.record, **kwargs}}
    return schedules.build_schedule(record)

  @property
  def drives_a_rate(self) -> bool:
    return set(self.told) <= set(base.EXTRA_ARGS)

  @property
  def xs(self) -> dict[str, jax.Array]:
    whole = lambda x: x.dtype.kind == 'i'
    arrays = {name: np.asarray(x) for name, x in self.told.items()}
    kinds = {n: np.int32 if whole(x) else np.float32 for n, x in arrays.items()}
    return {n: jnp.asarray(x, kinds[n]) for n, x in arrays.items()}


CONSTANT = {'name': 'constant_schedule', 'kwargs': {'value': 0.5}}
TRAPEZOID = {
  'name': 'wsd_schedule',
  'kwargs': {'peak_value': 1.0, 'warmup_steps': 0, 'stable_steps': 1}
  | {'decay_steps': 2},
}
GREEDY = {'init_value': 0.1, 'factor': 0.9, 'patience': 2}

CASES = {
  'per_task': Case(
    schedules.per_task,
    {'schedule': TRAPEZOID},
    {'task_id': TASKS},
    [1.0, 1.0, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0],
  ),
  'by_task': Case(
    schedules.by_task,
    {'schedules': [CONSTANT, TRAPEZOID]},
    {'task_id': (0, 1, 1, 1, 1, 0)},
    [0.5, 1.0, 1.0, 0.5, 0.0, 0.5],
  ),
  'greedy': Case(
    schedules.greedy,
    GREEDY,
    {'value': LOSSES},
    [0.1, 0.1, *5 * [1 / 9], 0.1, 0.1],
    traced=('init_value', 'factor', 'min_value', 'max_value'),
  ),
  'greedy_per_task': Case(
    schedules.greedy,
    {**GREEDY, 'per_task': True},
    {
      'value': (3.0, 2.0, 1.0, 9.0, 8.0, 7.0, 6.0),
      'task_id': (0,) * 3 + (1,) * 4,
    },
    [0.1, 0.1, 1 / 9, 0.1, 0.1, 1 / 9, 1 / 9],
    traced=('init_value',),
  ),
  'plateau_per_task': Case(
    schedules.plateau_per_task,
    {'schedule': CONSTANT, 'factor': 0.5, 'patience': 2},
    {'value': (1.0,) * 8, 'task_id': TASKS},
    [0.5, 0.5, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5],
  ),
  'progress_discount': Case(
    schedules.progress_discount,
    {'reference': [1, 2, 3, 4, 5], 'max_increase': 2},
    {'costs': [[STUCK], [STUCK], [STUCK], [SAME]]},
    # k = 3, 4, 4, 5: of four frames two in order are too few, three would do.
    [0.2 ** (1 / 3), 0.2 ** (1 / 4), 0.2 ** (1 / 4), 0.2 ** (1 / 5)],
    traced=('alpha',),
  ),
  'mastery_staircase': Case(
    schedules.mastery_staircase,
    {'values': [2, 3, 4], 'threshold': 0.98, 'patience': 2},
    {'metric': (0.99, 0.99, 1.0, 0.98, 1.0, 1.0, 1.0, 1.0)},
    [2, 3, 3, 3, 3, 4, 4, 4],
  ),
}

each_case = pytest.mark.parametrize(
  'case', [pytest.param(case, id=name) for name, case in CASES.items()]
)


def follow(case: Case, schedule: Any, state: Any, xs: Any) -> Any:
  """The state at the end and the values, in one compiled loop."""

  def step(state, told):
    new = schedule.update(state, **told)
    # A rate is asked before the update, as optax does; a scalar of the loop is
    # read when the loop has measured.
    value = schedule(state, **told) if case.drives_a_rate else schedule(new)
    return new, value

  return jax.jit(lambda s, xs: jax.lax.scan(step, s, xs))(state, xs)


@each_case
def test_golden_values_in_a_compiled_loop(case):
  schedule = case.make()
  assert isinstance(schedule, optax.schedules.StatefulSchedule)
  state, values = follow(case, schedule, schedule.init(), case.xs)
  assert values.dtype == jnp.float32
  np.testing.assert_allclose(values, case.golden, rtol=1e-6)
  kinds = lambda s: jax.tree.map(lambda x: (x.shape, x.dtype), s)
  assert kinds(state) == kinds(schedule.init())


@each_case
def test_the_loop_and_single_calls_agree(case):
  schedule = case.make()
  state, values = schedule.init(), []
  assert schedule(state).dtype == jnp.float32
  for step in range(len(case.golden)):
    told = jax.tree.map(lambda x, i=step: x[i], case.xs)
    value = schedule(state, **told)
    state = schedule.update(state, never_heard_of=1.0, **told)
    values.append(value if case.drives_a_rate else schedule(state))
  np.testing.assert_allclose(values, case.golden, rtol=1e-6)
  want = follow(case, schedule, schedule.init(), case.xs)[0]
  jax.tree.map(np.testing.assert_array_equal, state, want)


@each_case
def test_many_at_once_are_single_ones(case):
  schedule = case.make()
  flip = lambda x: jnp.stack([x, x[::-1]])
  many = jax.vmap(lambda xs: follow(case, schedule, schedule.init(), xs)[1])
  values = many(jax.tree.map(flip, case.xs))
  for order, got in zip((1, -1), values, strict=True):
    xs = jax.tree.map(lambda x, o=order: x[::o], case.xs)
    want = follow(case, schedule, schedule.init(), xs)[1]
    np.testing.assert_array_equal(got, want)


def test_a_checkpoint_goes_on_as_if_never_stopped(tmp_path):
  # One save for all rows; each stops before its third step.
  part = lambda xs, where: jax.tree.map(lambda x: x[where], xs)
  states = {
    name: follow(
      case, case.make(), case.make().init(), part(case.xs, slice(2))
    )[0]
    for name, case in CASES.items()
  }
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  target = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    {name: case.make().init() for name, case in CASES.items()},
  )
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'states', states)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / 'states', target)
  for name, case in CASES.items():
    assert tree.digest(restored[name]) == tree.digest(states[name]), name
    schedule = case.make()
    rest = part(case.xs, slice(2, None))
    end, values = follow(case, schedule, restored[name], rest)
    want_end, want = follow(case, schedule, schedule.init(), case.xs)
    np.testing.assert_array_equal(values, want[2:])
    assert tree.digest(end) == tree.digest(want_end), name


@each_case
def test_what_it_needs_is_an_error_when_it_is_missing(case):
  schedule = case.make()
  told = jax.tree.map(lambda x: x[0], case.xs)
  for name in case.told:
    rest = {key: x for key, x in told.items() if key != name}
    with pytest.raises(TypeError, match=name):
      schedule.update(schedule.init(), **rest)


@pytest.mark.parametrize(
  'case',
  [pytest.param(c, id=n) for n, c in CASES.items() if c.drives_a_rate],
)
def test_the_chain_applies_it(case):
  link = optax.inject_hyperparams(optax.scale_by_learning_rate)(case.make())
  tx = optax.chain(optax.identity(), link)
  params = jnp.ones([])
  everything = {'value': jnp.ones([]), 'task_id': jnp.zeros([], jnp.int32)}

  def step(state, told):
    updates, state = tx.update(params, state, params, **(everything | told))
    return state, (-updates, state[1].hyperparams['learning_rate'])

  run = jax.jit(lambda xs: jax.lax.scan(step, tx.init(params), xs)[1])
  applied, kept = run(case.xs)
  np.testing.assert_array_equal(applied, kept)
  np.testing.assert_allclose(applied, case.golden, rtol=1e-6)


@pytest.mark.parametrize(
  ('case', 'name'),
  [(c, name) for c in CASES.values() for name in c.traced],
)
def test_gradients_are_finite(case, name):
  def values(number):
    schedule = case.make(**{name: number})
    return follow(case, schedule, schedule.init(), case.xs)[1]

  start = case.record.get(
    name, {'alpha': 0.2, 'max_value': 1.0}.get(name, 1e-3)
  )
  slopes = jax.jit(jax.jacfwd(values))(start)
  assert np.all(np.isfinite(slopes))
  bounds = ('min_value', 'max_value')  # not met in this run
  assert np.any(slopes != 0) == (name not in bounds)


@each_case
def test_its_record_is_complete_and_plain(case):
  record = {'name': case.fn.__name__, 'kwargs': dict(case.record)}
  full = schedules.describe_schedule(record)
  assert json.loads(json.dumps(full)) == full
  schedule = schedules.build_schedule(full)
  values = follow(case, schedule, schedule.init(), case.xs)[1]
  want = follow(case, case.make(), case.make().init(), case.xs)[1]
  np.testing.assert_array_equal(values, want)
