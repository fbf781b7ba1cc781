"""Every decay in every schedule that takes one."""

from typing import Any

import pytest

from lrcl import schedules
from tests.schedules import cases
from tests.schedules.cases import Case

SHAPES = {  # the values at u = .25, .5, .75, .99 and 1
  'linear': (0.75, 0.5, 0.25, 0.01, 0.0),
  'one_minus_sqrt': (0.5, 0.2928932, 0.1339746, 0.0050126, 0.0),
  'cosine': (0.8535534, 0.5, 0.1464466, 0.00024672, 0.0),
  'mirror_cosine': (0.6464466, 0.5, 0.3535534, 0.0197533, 0.0),
  'square': (0.9375, 0.75, 0.4375, 0.0199, 0.0),
  'exponential': (0.5623413, 0.3162278, 0.1778279, 0.1023293, 0.1),
  'inverse': (0.3076923, 0.1818182, 0.1290323, 0.1009082, 0.1),
}
FAMILIES = {  # the same, and the argument
  'half_life_profile': (
    {'half_life': 0.25},
    (0.5, 0.25, 0.125, 0.0642571, 0.0625),
  ),
  'inverse_sqrt_profile': (
    {'timescale': 10.0},
    (0.3335933, 0.1528113, 0.0593937, 0.0019756, 0.0),
  ),
  'power_profile': (
    {'exponent': 1.5},
    (0.875, 0.6464466, 0.3504809, 0.0149624, 0.0),
  ),
  'rex_profile': (
    {'beta': 0.9},
    (0.9677419, 0.9090909, 0.7692308, 0.0917431, 0.0),
  ),
  'uba_profile': (
    {'phi': 5.0},
    (0.6998233, 0.2857143, 0.0642217, 0.0000987, 0.0),
  ),
}
SHAPES |= {name: late for name, (_, late) in FAMILIES.items()}


def bend(argument: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """The kwarg for a shape, by its name or as a profile, and its record."""
  if name in FAMILIES:
    kwargs, _ = FAMILIES[name]
    record = {argument: {'name': name, 'kwargs': kwargs}}
    return {argument: getattr(schedules, name)(**kwargs)}, record
  end = {'end_value': 0.1} if name in ('exponential', 'inverse') else {}
  return {argument: name, **end}, {argument: name, **end}


WSD = {
  'peak_value': 1.0,
  'warmup_steps': 100,
  'stable_steps': 800,
  'decay_steps': 100,
}


def wsd(decay: str) -> Case:
  kwargs, record = bend('decay', decay)
  return Case(
    f'wsd_{decay}',
    schedules.wsd_schedule,
    {**WSD, **kwargs},
    1000,
    {0: 0.0, 50: 0.5, 100: 1.0, 899: 1.0, 900: 1.0}
    | dict(zip((925, 950, 975, 999, 1000), SHAPES[decay], strict=True)),
    record={**WSD, **record},
  )


def wsd_s(decay: str) -> Case:
  kwargs, record = bend('decay', decay)
  base = {'peak_value': 1.0, 'warmup_steps': 100, 'end_value': 0.0}
  base |= {'cycle_ends': [400, 1000], 'decay_of': 'total'}
  late = SHAPES[decay]
  return Case(
    f'wsd_s_{decay}',
    schedules.wsd_s_schedule,
    {**base, **kwargs},
    1000,
    {0: 0.0, 50: 0.5, 100: 1.0, 360: 1.0, 400: 1.0, 900: 1.0}
    | dict(zip((370, 380, 390), late, strict=False))
    | dict(zip((925, 950, 975, 999, 1000), late, strict=True)),
    jumps=(400,),
    record={**base, **record},
  )


def branch(decay: str) -> Case:
  kwargs, record = bend('decay', decay)
  base = {'start_step': 500, 'decay_steps': 100}
  trunk = {'name': 'wsd_schedule', 'kwargs': WSD}
  return Case(
    f'branch_{decay}',
    schedules.decay_branch,
    {'schedule': schedules.wsd_schedule(**WSD), **base, **kwargs},
    600,
    {0: 0.0, 50: 0.5, 100: 1.0, 500: 1.0}
    | dict(zip((525, 550, 575, 599, 600), SHAPES[decay], strict=True)),
    record={'schedule': trunk, **base, **record},
  )


def infinite_profile(name: str) -> Case:
  """From 1 to a half in 100 steps; what a profile leaves over is a jump."""
  kwargs, record = bend('cooldown', name)
  base = {'peak_value': 1.0, 'constant_value': 0.5}
  base |= {'warmup_steps': 100, 'cooldown_steps': 100}
  late = [0.5 + 0.5 * part for part in SHAPES[name][:4]]
  return Case(
    f'infinite_{name}',
    schedules.infinite_schedule,
    {**base, **kwargs},
    300,
    {0: 0.0, 50: 0.5, 100: 1.0, 200: 0.5, 300: 0.5}
    | dict(zip((125, 150, 175, 199), late, strict=True)),
    jumps=(200,) if SHAPES[name][-1] else (),
    record={**base, **record},
  )


PAIRS = [
  *(wsd(decay) for decay in SHAPES),
  *(wsd_s(decay) for decay in SHAPES),
  *(branch(decay) for decay in SHAPES),
  *(infinite_profile(name) for name in FAMILIES),
]
each_pair = pytest.mark.parametrize(
  'case', [pytest.param(case, id=case.label) for case in PAIRS]
)


@each_pair
def test_golden_values(case):
  cases.check_golden(case)


@each_pair
def test_eager_jit_vmap_and_scan_give_the_same_bits(case):
  cases.check_bits(case)


@each_pair
def test_no_jump_that_is_not_declared(case):
  cases.check_jumps(case)


@each_pair
def test_gradients_by_all_that_may_be_traced_are_finite(case):
  cases.check_gradients(case)


@each_pair
def test_its_record_builds_it(case):
  cases.check_record(case)
