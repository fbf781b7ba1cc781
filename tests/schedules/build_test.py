"""Records of schedules."""

import json

import numpy as np
import pytest

from lrcl import schedules

CONSTANT = {'name': 'constant_schedule', 'kwargs': {'value': 0.5}}
LINEAR = {'init_value': 1.0, 'end_value': 0.0, 'transition_steps': 4}


def test_optax_schedules_have_records():
  linear = {'name': 'linear_schedule', 'kwargs': LINEAR}
  kwargs = {'schedules': [CONSTANT, linear], 'boundaries': [3]}
  joined = schedules.build_schedule(
    {'name': 'join_schedules', 'kwargs': kwargs}
  )
  got = [float(joined(step)) for step in range(8)]
  assert got == [0.5, 0.5, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_task_schedules_nest():
  branch = {'schedule': CONSTANT, 'start_step': 2, 'decay_steps': 2}
  parts = [CONSTANT, {'name': 'decay_branch', 'kwargs': branch}]
  record = {'name': 'by_task', 'kwargs': {'schedules': parts}}
  rate = schedules.build_schedule(json.loads(json.dumps(record)))
  state = schedules.TaskScheduleState(np.int32(3), np.int32(1))
  assert rate(state) == 0.25 and rate(rate.init()) == 0.5
  record = {'name': 'per_task', 'kwargs': {'schedule': parts[1]}}
  assert schedules.build_schedule(record)(state) == 0.25


def test_descriptions_are_complete_and_plain():
  kwargs = {'peak_value': np.float32(0.5), 'warmup_steps': np.int64(2)}
  record = {'name': 'wsd_s_schedule', 'kwargs': {**kwargs, 'cycle_ends': (20,)}}
  full = schedules.describe_schedule(record)
  assert json.loads(json.dumps(full)) == full
  assert full['kwargs'] == {
    'peak_value': 0.5,
    'warmup_steps': 2,
    'cycle_ends': [20],
    'decay_fraction': 0.1,
    'decay_of': 'cycle',
    'init_value': 0.0,
    'end_value': None,
    'decay': 'inverse',
  }


def test_a_function_has_no_record():
  kwargs = {'peak_value': 1.0, 'warmup_steps': 0, 'stable_steps': 1}
  kwargs |= {'decay_steps': 1, 'decay': lambda u: 1 - u}
  record = {'name': 'wsd_schedule', 'kwargs': kwargs}
  assert schedules.build_schedule(record)(0) == 1.0
  with pytest.raises(ValueError, match=r'decay is .*no recordable form'):
    schedules.describe_schedule(record)


@pytest.mark.parametrize(
  ('record', 'message'),
  [
    ({'name': 'wsd_shedule'}, "'by_task', .*Did you mean 'wsd_schedule'"),
    ({'name': 'power_profile'}, "name is 'power_profile'"),
    ({'name': ['wsd_schedule']}, 'name is'),
    ({'name': 'wsd_schedule', 'kwargs': {'peak': 1}}, "mean 'peak_value'"),
    (
      {'name': 'linear_schedule', 'kwargs': {'init_value': 1}},
      'lacks end_value',
    ),
    ({'name': 'wsd_schedule', 'args': []}, 'the record is'),
    ('wsd_schedule', 'the record is'),
    (
      {'name': 'per_task', 'kwargs': {'schedule': {'name': 'x'}}},
      "name is 'x'",
    ),
  ],
)
def test_refused(record, message):
  with pytest.raises(ValueError, match=f'^build_schedule: .*{message}'):
    schedules.build_schedule(record)
