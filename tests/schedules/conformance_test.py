"""One battery for all schedules; a new schedule is one more row of `CASES`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import schedules
from tests.schedules import cases
from tests.schedules.cases import Case

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


def budgeted(
  name: str, parameter: Mapping[str, float], *golden: float, **kwargs: Any
) -> Case:
  """`golden`: the values at 10, 25, 50, 75 and 90 of 100 steps."""
  kwargs = {'peak_value': 1.0, 'decay_steps': 100, **parameter, **kwargs}
  marks = (10, 25, 50, 75, 90)
  end = 1.0 if parameter == {'phi': 0.0} else 0.0
  return Case(
    '_'.join([name, *map(str, parameter.values())]),
    getattr(schedules, name),
    kwargs,
    100,
    {0: 1.0, 100: end, 150: end} | dict(zip(marks, golden, strict=True)),
  )


def refined(norms: list[float], power: int, *golden: float) -> Case:
  return Case(
    f'refined_{len(norms)}_{power}',
    schedules.refined_schedule,
    {'gradient_norms': norms, 'peak_value': 1.0, 'power': power},
    len(norms),
    {**dict(enumerate(golden)), 2**31 - 1: 0.0},
  )


CASES = [
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
  budgeted(
    'rex_schedule',
    {'beta': 0.5},
    0.9473684,
    0.8571429,
    0.6666667,
    0.4,
    0.1818182,
  ),
  budgeted(
    'rex_schedule',
    {'beta': 0.9},
    0.9890110,
    0.9677419,
    0.9090909,
    0.7692308,
    0.5263158,
  ),
  budgeted('rex_schedule', {'beta': 0.0}, 0.9, 0.75, 0.5, 0.25, 0.1),
  Case(
    'rex_with_warmup',
    schedules.rex_schedule,
    {'peak_value': 1.0, 'decay_steps': 100, 'warmup_steps': 20}
    | {'init_value': 0.2, 'end_value': 0.1},
    120,
    {0: 0.2, 10: 0.6, 20: 1.0, 30: 0.9526316, 70: 0.7, 95: 0.46}
    | {120: 0.1, 200: 0.1},
  ),
  budgeted(
    'uba_schedule',
    {'phi': 0.5},
    0.9937677,
    0.9588709,
    0.8,
    0.4069827,
    0.0911921,
  ),
  budgeted(
    'uba_schedule',
    {'phi': 1.0},
    0.9876126,
    0.9209914,
    0.6666667,
    0.2554792,
    0.0477744,
  ),
  budgeted(
    'uba_schedule',
    {'phi': 5.0},
    0.9409869,
    0.6998233,
    0.2857143,
    0.0642217,
    0.0099346,
  ),
  budgeted(
    'uba_schedule',
    {'phi': 10.0},
    0.8885507,
    0.5382524,
    0.1666667,
    0.0331761,
    0.0049921,
  ),
  budgeted('uba_schedule', {'phi': 0.0}, 1.0, 1.0, 1.0, 1.0, 1.0),
  Case(
    'sampled_rex',
    schedules.sampled,
    {'schedule': schedules.rex_schedule(1.0, 100), 'every': 10},
    100,
    {0: 1.0, 9: 1.0, 10: 0.9473684, 19: 0.9473684, 50: 0.6666667}
    | {59: 0.6666667, 99: 0.1818182, 100: 0.0, 2**31 - 1: 0.0},
    jumps=tuple(range(10, 101, 10)),
    record={
      'schedule': {
        'name': 'rex_schedule',
        'kwargs': {'peak_value': 1.0, 'decay_steps': 100},
      },
      'every': 10,
    },
  ),
  Case(
    'inverse_sqrt',
    schedules.inverse_sqrt_schedule,
    {'peak_value': 1.0, 'warmup_steps': 100},
    1000,
    {0: 0.0, 50: 0.5, 100: 1.0, 400: 0.5, 2500: 0.2},
  ),
  Case(
    'inverse_sqrt_timescale',
    schedules.inverse_sqrt_schedule,
    {'peak_value': 1.0, 'warmup_steps': 10, 'timescale': 100}
    | {'init_value': 0.5},
    1000,
    {0: 0.5, 5: 0.75, 10: 1.0, 100: 1.0, 400: 0.5, 2500: 0.2},
  ),
  Case(
    'noam',
    schedules.noam_schedule,
    {'model_size': 512, 'warmup_steps': 4000},
    4000,
    {0: 1.7469281e-7, 1: 1.7469281e-7, 2000: 3.4938562e-4}
    | {4000: 6.9877124e-4, 16000: 3.4938562e-4},
  ),
  Case(
    'power',
    schedules.power_schedule,
    {'peak_value': 0.02, 'batch_size': 128, 'sequence_length': 4096},
    2000,
    {0: 0.02, 1: 0.02, 1000: 0.02, 1365: 0.01795020824, 2000: 0.01477276691}
    | {10000: 0.006501104445, 100000: 0.002009033337}
    | {238419: 0.001289862164},
  ),
  Case(
    'power_with_warmup',
    schedules.power_schedule,
    {'peak_value': 0.02, 'batch_size': 128, 'sequence_length': 4096}
    | {'warmup_steps': 2000},
    2000,
    {0: 0.0, 1000: 0.007386383457, 2000: 0.01477276691}
    | {10000: 0.006501104445},
  ),
  refined([1.0] * 5, 2, 1.0, 0.75, 0.5, 0.25, 0.0),
  refined(
    [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0],
    2,
    *(0.0814043, 0.1419753, 0.3055556, 1.0, 0.7777778),
    *(0.5555556, 0.3333333, 0.1111111, 0.0138889, 0.0),
  ),
  refined(
    [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0],
    1,
    *(0.3416667, 0.4333333, 0.6, 1.0, 0.8),
    *(0.6, 0.4, 0.2, 0.05, 0.0),
  ),
  Case(
    'piecewise_linear',
    schedules.piecewise_linear_schedule,
    {'steps': [0, 10, 60, 100], 'values': [0.0, 1.0, 0.5, 0.1]},
    100,
    {0: 0.0, 5: 0.5, 10: 1.0, 35: 0.75, 60: 0.5, 80: 0.3, 100: 0.1, 2**30: 0.1},
  ),
]

each_case = pytest.mark.parametrize(
  'case', [pytest.param(case, id=case.label) for case in CASES]
)


@each_case
def test_golden_values(case):
  cases.check_golden(case)


@each_case
def test_eager_jit_vmap_and_scan_give_the_same_bits(case):
  cases.check_bits(case)


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
  cases.check_jumps(case)


@each_case
def test_gradients_by_all_that_may_be_traced_are_finite(case):
  if not cases.values_of(case.full_record):
    pytest.skip('its numbers are static')
  cases.check_gradients(case)


@each_case
def test_traced_values_give_the_same_within_rounding(case):
  names = [n for n in case.kwargs if n.endswith('_value')]
  rest = {k: v for k, v in case.kwargs.items() if k not in names}

  @jax.jit
  def traced(values, steps):
    return jax.vmap(case.fn(**rest, **values))(steps)

  got = traced({n: case.kwargs[n] for n in names}, case.steps)
  np.testing.assert_allclose(got, case.values, rtol=3e-7, atol=0)


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
  cases.check_record(case)
