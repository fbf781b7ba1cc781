"""One battery for all schedules; a new schedule is one more row of `CASES`."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import inspect
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import schedules


@dataclasses.dataclass(frozen=True)
class Case:
  """A schedule, what it must give, and where it may jump."""

  label: str
  fn: Callable[..., optax.Schedule]
  kwargs: Mapping[str, Any]
  total: int
  golden: Mapping[int, float]
  jumps: tuple[int, ...] = ()
  record: Mapping[str, Any] | None = None  # kwargs, where those are not JSON

  @functools.cached_property
  def schedule(self) -> optax.Schedule:
    return self.fn(**self.kwargs)

  @property
  def scale(self) -> float:
    return max(self.golden.values())

  @property
  def steps(self) -> np.ndarray:
    return np.arange(2 * self.total + 1, dtype=np.int32)

  @property
  def probes(self) -> list[int]:
    """A few steps that matter: around each golden one, and a stride."""
    near = {step + d for step in self.golden for d in (-1, 0, 1)}
    every = range(0, 2 * self.total, max(1, self.total // 10))
    return sorted(s for s in near | set(every) if 0 <= s < 2**31)


NEOX = {
  'peak_value': 3e-4,
  'constant_value': 1.65e-4,
  'end_value': 3e-5,
  'warmup_steps': 10,
  'cooldown_steps': 600,
  'anneal_start': 860,
  'anneal_steps': 140,
}
NEOX_EDGES = {0: 0.0, 5: 1.5e-4, 10: 3e-4, 610: 1.65e-4, 860: 1.65e-4} | {
  900: 1.01379874e-4,
  930: 7.03562364e-5,
  1000: 3e-5,
  1900: 3e-5,
}
MAE_TAIL = {800: 1.5e-4, 850: 1.003110457e-4, 900: 6.708203932e-5, 1000: 3e-5}
TRUNK = {
  'peak_value': 3e-4,
  'constant_value': 1.65e-4,
  'warmup_steps': 10,
  'cooldown_steps': 600,
}
WSD = {
  'peak_value': 1.0,
  'warmup_steps': 100,
  'stable_steps': 800,
  'decay_steps': 100,
}


def infinite(cooldown: str, golden: Mapping[int, float]) -> Case:
  return Case(
    f'infinite_{cooldown}',
    schedules.infinite_schedule,
    {**NEOX, 'cooldown': cooldown},
    1000,
    {**NEOX_EDGES, **golden},
  )


def infinite_run(cooldown: str, golden: Mapping[int, float]) -> Case:
  kwargs = {'peak_value': 3e-4, 'constant_value': 1.65e-4, 'end_value': 3e-5}
  return Case(
    f'infinite_run_{cooldown}',
    schedules.infinite_run_schedule,
    {**kwargs, 'total_steps': 1000, 'cooldown': cooldown},
    1000,
    {**NEOX_EDGES, **golden},
  )


def wsd(decay: str, *late: float, **kwargs: Any) -> Case:
  """`late`: the values at 925, 950, 975, 999 and 1000."""
  golden = {0: 0.0, 50: 0.5, 100: 1.0, 899: 1.0, 900: 1.0}
  golden |= dict(zip((925, 950, 975, 999, 1000), late, strict=True))
  kwargs = {**WSD, 'decay': decay, **kwargs}
  return Case(f'wsd_{decay}', schedules.wsd_schedule, kwargs, 1000, golden)


def wsd_profile(name: str, arg: float, *late: float) -> Case:
  golden = {0: 0.0, 100: 1.0, 900: 1.0}
  golden |= dict(zip((925, 950, 975, 999, 1000), late, strict=True))
  profiles = {
    'half_life_profile': ('half_life', schedules.half_life_profile),
    'power_profile': ('exponent', schedules.power_profile),
  }
  argument, fn = profiles[name]
  return Case(
    f'wsd_{name}',
    schedules.wsd_schedule,
    {**WSD, 'decay': fn(arg)},
    1000,
    golden,
    record={**WSD, 'decay': {'name': name, 'kwargs': {argument: arg}}},
  )


CASES = [
  wsd('linear', 0.75, 0.5, 0.25, 0.01, 0.0),
  wsd('one_minus_sqrt', 0.5, 0.2928932, 0.1339746, 0.0050126, 0.0),
  wsd('cosine', 0.8535534, 0.5, 0.1464466, 0.00024672, 0.0),
  wsd('mirror_cosine', 0.6464466, 0.5, 0.3535534, 0.0197533, 0.0),
  wsd('square', 0.9375, 0.75, 0.4375, 0.0199, 0.0),
  wsd(
    'exponential',
    0.5623413,
    0.3162278,
    0.1778279,
    0.1023293,
    0.1,
    end_value=0.1,
  ),
  wsd(
    'inverse', 0.3076923, 0.1818182, 0.1290323, 0.1009082, 0.1, end_value=0.1
  ),
  wsd_profile('half_life_profile', 0.25, 0.5, 0.25, 0.125, 0.0642571, 0.0625),
  wsd_profile(
    'power_profile', 1.5, 0.875, 0.6464466, 0.3504809, 0.0149624, 0.0
  ),
  Case(
    'linear_to_zero',
    schedules.wsd_schedule,
    {'peak_value': 1.0, 'warmup_steps': 10, 'stable_steps': 0}
    | {'decay_steps': 90},
    100,
    {0: 0.0, 5: 0.5, 10: 1.0, 55: 0.5, 99: 0.0111111, 100: 0.0, 150: 0.0},
  ),
  Case(
    'bare_decay',
    schedules.wsd_schedule,
    {'peak_value': 1.0, 'warmup_steps': 0, 'stable_steps': 0}
    | {'decay_steps': 49},
    49,
    {0: 1.0, 7: 0.8571429, 48: 0.0204082, 49: 0.0},
  ),
  Case(
    'wsd_s_cycle',
    schedules.wsd_s_schedule,
    {'peak_value': 1.0, 'warmup_steps': 20, 'cycle_ends': [250, 500, 1000]},
    1000,
    {0: 0.0, 10: 0.5, 20: 1.0, 224: 1.0, 225: 1.0, 237: 0.1879699}
    | {249: 0.1037344, 250: 1.0, 475: 1.0, 499: 0.1037344, 500: 1.0}
    | {950: 1.0, 975: 0.1818182, 999: 0.1018330, 1000: 0.1, 1500: 0.1},
    jumps=(250, 500),
  ),
  Case(
    'wsd_s_total',
    schedules.wsd_s_schedule,
    {'peak_value': 1.0, 'warmup_steps': 20, 'decay_of': 'total'}
    | {'cycle_ends': [250, 500, 750, 1000], 'end_value': 0.1},
    1000,
    {225: 1.0, 226: 0.7352941, 249: 0.1037344, 250: 1.0, 475: 0.1818182}
    | {499: 0.1018330, 675: 1.0, 700: 0.25, 749: 0.1012146}
    | {950: 0.1818182, 999: 0.1009082, 1000: 0.1},
    jumps=(250, 500, 750),
  ),
  infinite('cosine', {160: 2.802297077e-4, 310: 2.325e-4, 460: 1.847702923e-4}),
  infinite(
    'inverse_sqrt',
    {160: 2.100350962e-4, 310: 1.856295229e-4, 460: 1.730181495e-4},
  ),
  infinite('linear', {160: 2.6625e-4, 310: 2.325e-4, 460: 1.9875e-4}),
  Case(
    'infinite_first_task',
    schedules.infinite_schedule,
    {'peak_value': 3e-4, 'constant_value': 1.5e-4, 'end_value': 3e-5}
    | {'warmup_steps': 50, 'cooldown_steps': 450}
    | {'anneal_start': 800, 'anneal_steps': 200},
    1000,
    {0: 0.0, 25: 1.5e-4, 50: 3e-4, 275: 2.25e-4, 500: 1.5e-4} | MAE_TAIL,
  ),
  Case(
    'infinite_later_task',
    schedules.infinite_schedule,
    {'peak_value': 1.5e-4, 'constant_value': 1.5e-4, 'end_value': 3e-5}
    | {'warmup_steps': 0, 'cooldown_steps': 0}
    | {'anneal_start': 800, 'anneal_steps': 200},
    1000,
    {0: 1.5e-4, 400: 1.5e-4} | MAE_TAIL,
  ),
  Case(
    'infinite_no_anneal',
    schedules.infinite_schedule,
    TRUNK,
    1000,
    {0: 0.0, 10: 3e-4, 310: 2.325e-4, 610: 1.65e-4, 2**31 - 1: 1.65e-4},
  ),
  infinite_run('cosine', {160: 2.802297077e-4, 460: 1.847702923e-4}),
  infinite_run('inverse_sqrt', {160: 2.100350962e-4, 460: 1.730181495e-4}),
  infinite_run('linear', {160: 2.6625e-4, 460: 1.9875e-4}),
  Case(
    'infinite_task_first',
    schedules.infinite_task_schedule,
    {'peak_value': 3e-4, 'constant_value': 1.5e-4, 'end_value': 3e-5}
    | {'task_steps': 1000},
    1000,
    {0: 0.0, 25: 1.5e-4, 50: 3e-4, 275: 2.25e-4, 500: 1.5e-4} | MAE_TAIL,
  ),
  Case(
    'infinite_task_later',
    schedules.infinite_task_schedule,
    {'peak_value': 3e-4, 'constant_value': 1.5e-4, 'end_value': 3e-5}
    | {'task_steps': 1000, 'is_first': False},
    1000,
    {0: 1.5e-4, 400: 1.5e-4} | MAE_TAIL,
  ),
  Case(
    'wsd_constant_tail',
    schedules.wsd_schedule,
    {'peak_value': 1.0, 'warmup_steps': 100, 'stable_steps': 600}
    | {'decay_steps': 100, 'end_value': 0.1},
    1000,
    {0: 0.0, 50: 0.5, 100: 1.0, 700: 1.0, 750: 0.55, 800: 0.1, 1000: 0.1}
    | {2000: 0.1},
  ),
  Case(
    'repeated_cosine',
    schedules.repeated_cosine_schedule,
    {'peak_value': 3e-4, 'end_value': 3e-5}
    | {'cycle_steps': 1000, 'warmup_steps': 10},
    2000,
    {0: 0.0, 5: 1.5e-4, 10: 3e-4, 505: 1.65e-4, 999: 3.000067972e-5}
    | {1000: 3e-5, 1005: 1.65e-4, 1010: 3e-4, 1505: 1.65e-4}
    | {1999: 3.000067972e-5, 2000: 3e-5, 2005: 1.65e-4},
  ),
  Case(
    'rewarmed_equal_tasks',
    schedules.rewarmed_schedule,
    {'peak_value': 3e-4, 'end_value': 3e-5}
    | {'task_steps': [1000, 1000], 'warmup_steps': 10},
    2000,
    {0: 0.0, 5: 1.5e-4, 10: 3e-4, 505: 1.65e-4, 999: 3.000067972e-5}
    | {1000: 3e-5, 1005: 1.65e-4, 1010: 3e-4, 1505: 1.65e-4}
    | {1999: 3.000067972e-5, 2000: 3e-5, 2005: 3e-5},
  ),
  Case(
    'rewarmed_shrinking_peaks',
    schedules.rewarmed_schedule,
    {'peak_value': 1.0, 'end_value': 0.1, 'peak_decay': 0.5}
    | {'task_steps': [1000, 500, 250], 'warmup_steps': 10},
    1750,
    {0: 0.0, 5: 0.5, 10: 1.0, 505: 0.55, 1000: 0.1}
    | {1005: 0.3, 1010: 0.5, 1255: 0.3, 1500: 0.1}
    | {1505: 0.175, 1510: 0.25, 1630: 0.175, 1750: 0.1, 2500: 0.1},
  ),
  Case(
    'cyclical_fraction',
    schedules.cyclical_fraction_schedule,
    {'epoch_steps': 4},
    9,
    {0: 0.25, 1: 0.5, 2: 0.5, 3: 1.0, 6: 1.0, 7: 0.5, 8: 0.5, 9: 0.25}
    | {10: 0.5, 12: 1.0, 18: 0.25},
    jumps=(1, 3, 7, 9, 10, 12, 16, 18),
  ),
  Case(
    'geometric_budget',
    schedules.geometric_budget_schedule,
    {'init_value': 256.0, 'transition_steps': 50, 'decay_rate': 0.8}
    | {'end_value': 20.0},
    500,
    {0: 256.0, 49: 256.0, 50: 204.0, 100: 163.0, 250: 83.0, 500: 27.0}
    | {550: 21.0, 600: 20.0, 2**31 - 1: 20.0},
    jumps=tuple(range(50, 600, 50)),
  ),
  Case(
    'geometric_budget_without_stairs',
    schedules.geometric_budget_schedule,
    {'init_value': 100.0, 'transition_steps': 10, 'decay_rate': 0.5}
    | {'staircase': False},
    70,
    {0: 100.0, 5: 70.0, 10: 50.0, 20: 25.0, 30: 12.0, 40: 6.0, 70: 1.0},
  ),
  Case(
    'decay_branch',
    schedules.decay_branch,
    {'schedule': schedules.infinite_schedule(**TRUNK)}
    | {'start_step': 310, 'decay_steps': 100},
    410,
    {0: 0.0, 5: 1.5e-4, 10: 3e-4, 160: 2.802297077e-4, 310: 2.325e-4}
    | {360: 1.1625e-4, 410: 0.0, 800: 0.0},
    record={
      'schedule': {'name': 'infinite_schedule', 'kwargs': TRUNK},
      'start_step': 310,
      'decay_steps': 100,
    },
  ),
  Case(
    'decay_branch_exponential',
    schedules.decay_branch,
    {'schedule': schedules.wsd_schedule(**WSD)}
    | {'start_step': 500, 'decay_steps': 100}
    | {'end_value': 0.1, 'decay': 'exponential'},
    600,
    {0: 0.0, 50: 0.5, 500: 1.0, 525: 0.5623413, 599: 0.1023293, 600: 0.1},
    record={
      'schedule': {'name': 'wsd_schedule', 'kwargs': WSD},
      'start_step': 500,
      'decay_steps': 100,
      'end_value': 0.1,
      'decay': 'exponential',
    },
  ),
]

each_case = pytest.mark.parametrize(
  'case', [pytest.param(case, id=case.label) for case in CASES]
)


def over(schedule: optax.Schedule, steps: Any) -> np.ndarray:
  """The schedule over many steps, under jit and vmap."""
  return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)))


@each_case
def test_golden_values(case):
  steps, want = np.array(list(case.golden)), list(case.golden.values())
  got = over(case.schedule, steps)
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7 * case.scale)


@each_case
def test_finite_and_not_negative(case):
  values = over(case.schedule, case.steps)
  assert values.dtype == np.float32
  assert np.all(np.isfinite(values)) and np.all(values >= 0)


@each_case
def test_eager_jit_vmap_and_scan_give_the_same_bits(case):
  values = over(case.schedule, case.steps)
  jitted = jax.jit(case.schedule)
  carry = lambda count, _: (count + 1, case.schedule(count))
  count = jnp.zeros([], jnp.int32)
  scanned = jax.jit(
    lambda: jax.lax.scan(carry, count, length=case.steps.size)[1]
  )()
  np.testing.assert_array_equal(values, scanned)
  np.testing.assert_array_equal(values, case.schedule(case.steps))
  for step in case.probes:
    eager, traced = case.schedule(step), jitted(step)
    assert eager.shape == () and eager.dtype == jnp.float32
    np.testing.assert_array_equal(eager, traced)
    if step < case.steps.size:
      np.testing.assert_array_equal(eager, values[step])


@each_case
def test_every_kind_of_step(case):
  for step in [s for s in case.probes if s < 2**24][::5]:
    want = case.schedule(step)
    for kind in (float, np.int64, np.float64):
      np.testing.assert_array_equal(case.schedule(kind(step)), want)
    for dtype in (jnp.int32, jnp.float32):
      got = case.schedule(jnp.asarray(step, dtype))
      np.testing.assert_array_equal(got, want)


@each_case
def test_no_jump_that_is_not_declared(case):
  edges = case.steps[1:].astype(np.float32)
  rise = over(case.schedule, edges) - over(case.schedule, edges - 1e-3)
  jumps = edges[np.abs(rise) > 0.01 * case.scale]
  np.testing.assert_array_equal(jumps, case.jumps)


@each_case
def test_gradients_by_every_value_are_finite(case):
  parameters = inspect.signature(case.fn).parameters
  values = {
    name: case.kwargs.get(name, parameter.default)
    for name, parameter in parameters.items()
    if name.endswith('_value')
  }
  values = {name: v for name, v in values.items() if v is not None}
  if not values:
    pytest.skip('its numbers are static')
  rest = {k: v for k, v in case.kwargs.items() if k not in values}
  at = lambda values, step: case.fn(**rest, **values)(step)
  grads = jax.jit(jax.vmap(jax.grad(at), (None, 0)))(values, case.steps)
  for name, grad in grads.items():
    assert np.all(np.isfinite(grad)), name
  assert any(np.any(grad != 0) for grad in grads.values())


@each_case
def test_traced_values_give_the_same_within_rounding(case):
  names = [n for n in case.kwargs if n.endswith('_value')]
  rest = {k: v for k, v in case.kwargs.items() if k not in names}

  @jax.jit
  def traced(values, steps):
    return jax.vmap(case.fn(**rest, **values))(steps)

  got = traced({n: case.kwargs[n] for n in names}, case.steps)
  want = over(case.schedule, case.steps)
  np.testing.assert_allclose(got, want, rtol=3e-7, atol=0)


@each_case
def test_optax_takes_it(case):
  params = {'w': jnp.ones(3)}
  plain = optax.adam(case.schedule)
  injected = optax.inject_hyperparams(optax.adam)(case.schedule)
  tx = optax.chain(plain, injected)

  def step(state, _):
    updates, state = tx.update(params, state, params)
    return state, (updates['w'], state[1].hyperparams['learning_rate'])

  # Adam's own bias correction divides floats by integers.
  with jax.numpy_dtype_promotion('standard'):
    run = jax.jit(lambda s: jax.lax.scan(step, s, length=5)[1])
    updates, rates = run(tx.init(params))
  assert np.all(np.isfinite(updates))
  np.testing.assert_array_equal(rates, case.schedule(np.arange(5)))


@each_case
def test_its_record_builds_it(case):
  kwargs = case.kwargs if case.record is None else case.record
  record = {'name': case.fn.__name__, 'kwargs': dict(kwargs)}
  full = schedules.describe_schedule(record)
  assert schedules.describe_schedule(full) == full
  built = schedules.build_schedule(json.loads(json.dumps(full)))
  np.testing.assert_array_equal(built(case.steps), case.schedule(case.steps))
