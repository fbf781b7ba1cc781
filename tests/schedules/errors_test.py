"""What is impossible is refused at once, in one line that says why."""

import math

import optax
import pytest

from lrcl import schedules

WSD = {'peak_value': 1.0, 'warmup_steps': 2, 'stable_steps': 2}
WSD |= {'decay_steps': 4}
WSD_S = {'peak_value': 1.0, 'warmup_steps': 2, 'cycle_ends': [20, 40]}
INFINITE = {'peak_value': 1.0, 'constant_value': 0.5, 'warmup_steps': 2}
INFINITE |= {'cooldown_steps': 4}
REPEATED = {'peak_value': 1.0, 'cycle_steps': 10, 'warmup_steps': 2}
BRANCH = {'schedule': optax.constant_schedule(1.0), 'start_step': 3}
BRANCH |= {'decay_steps': 4}
REX = {'peak_value': 1.0, 'decay_steps': 4}
UBA = {'peak_value': 1.0, 'decay_steps': 4, 'phi': 0.5}
SAMPLED = {'schedule': optax.constant_schedule(1.0), 'every': 2}
INVERSE = {'peak_value': 1.0, 'warmup_steps': 4}
NOAM = {'model_size': 4, 'warmup_steps': 4}
POWER = {'peak_value': 0.02, 'batch_size': 8, 'sequence_length': 16}
REFINED = {'gradient_norms': [3.0, 2.0, 1.0], 'peak_value': 1.0}
KNOTS = {'steps': [0, 4], 'values': [1.0, 0.0]}

WRONG = [
  ('wsd_schedule', WSD, {'warmup_steps': -1}, 'warmup_steps is -1'),
  ('wsd_schedule', WSD, {'warmup_steps': 1.5}, 'warmup_steps is 1.5'),
  ('wsd_schedule', WSD, {'stable_steps': -1}, 'stable_steps is -1'),
  ('wsd_schedule', WSD, {'decay_steps': 0}, 'decay_steps is 0.*>= 1'),
  ('wsd_schedule', WSD, {'peak_value': -0.1}, 'peak_value is -0.1.*>= 0'),
  ('wsd_schedule', WSD, {'peak_value': math.nan}, 'peak_value is nan'),
  ('wsd_schedule', WSD, {'init_value': math.inf}, 'init_value is inf'),
  ('wsd_schedule', WSD, {'decay': 'cosinus'}, "decay is 'cosinus'.*'cosine'"),
  ('wsd_schedule', WSD, {'decay': None}, 'decay is None'),
  ('wsd_schedule', WSD, {'decay': 'exponential'}, 'end_value is 0.0.*> 0'),
  ('wsd_schedule', WSD, {'decay': 'inverse'}, 'end_value is 0.0.*> 0'),
  ('wsd_s_schedule', WSD_S, {'cycle_ends': []}, 'cycle_ends is empty'),
  ('wsd_s_schedule', WSD_S, {'cycle_ends': [20, 20]}, r'cycle_ends\[1\] is 20'),
  ('wsd_s_schedule', WSD_S, {'cycle_ends': [0, 20]}, r'cycle_ends\[0\] is 0'),
  ('wsd_s_schedule', WSD_S, {'warmup_steps': 19}, 'warmup_steps is 19.*<= 18'),
  ('wsd_s_schedule', WSD_S, {'cycle_ends': [20, 22]}, 'decay_fraction is 0.1'),
  (
    'wsd_s_schedule',
    WSD_S,
    {'cycle_ends': [200, 210], 'decay_of': 'total'},
    'before step 210 21 steps long',
  ),
  ('wsd_s_schedule', WSD_S, {'decay_fraction': 0}, 'decay_fraction is 0'),
  ('wsd_s_schedule', WSD_S, {'decay_fraction': 1.1}, 'decay_fraction is 1.1'),
  ('wsd_s_schedule', WSD_S, {'decay_of': 'totel'}, "Did you mean 'total'"),
  ('wsd_s_schedule', WSD_S, {'end_value': 0.0}, 'end_value is 0.0.*> 0'),
  ('infinite_schedule', INFINITE, {'cooldown_steps': -1}, 'cooldown_steps'),
  ('infinite_schedule', INFINITE, {'anneal_steps': 5}, 'anneal_start is None'),
  (
    'infinite_schedule',
    INFINITE,
    {'anneal_start': 5, 'anneal_steps': 5},
    'anneal_start is 5; it must be >= 6',
  ),
  ('infinite_schedule', INFINITE, {'anneal_start': 9}, 'anneal_steps is 0'),
  (
    'infinite_schedule',
    INFINITE,
    {'anneal_start': 9, 'anneal_steps': 5, 'end_value': 0.0},
    'end_value is 0.0.*> 0',
  ),
  ('infinite_schedule', INFINITE, {'cooldown': 'inverse'}, "'inverse_sqrt'"),
  ('repeated_cosine_schedule', REPEATED, {'warmup_steps': 10}, '< cycle_steps'),
  (
    'repeated_cosine_schedule',
    REPEATED,
    {'cycle_steps': 0},
    'cycle_steps is 0',
  ),
  ('repeated_cosine_schedule', REPEATED, {'end_value': -1.0}, 'end_value'),
  ('decay_branch', BRANCH, {'schedule': 0.1}, 'schedule is 0.1'),
  ('decay_branch', BRANCH, {'start_step': -1}, 'start_step is -1'),
  ('decay_branch', BRANCH, {'decay_steps': 0}, 'decay_steps is 0'),
  ('decay_branch', BRANCH, {'end_value': -1.0}, 'end_value is -1.0'),
  ('decay_branch', BRANCH, {'decay': 'inverse'}, 'end_value is 0.0.*> 0'),
  ('per_task', {}, {'schedule': 0.1}, 'schedule is 0.1'),
  ('by_task', {}, {'schedules': []}, 'schedules is empty'),
  ('by_task', {}, {'schedules': [0.1]}, r'schedules\[0\] is 0.1'),
  ('power_profile', {}, {'exponent': 0.0}, 'exponent is 0.0.*> 0'),
  ('half_life_profile', {}, {'half_life': -1.0}, 'half_life is -1.0.*> 0'),
  ('inverse_sqrt_profile', {}, {'timescale': -1.0}, 'timescale is -1.0.*>= 0'),
  ('rex_profile', {}, {'beta': -0.5}, 'beta is -0.5.*>= 0'),
  ('rex_profile', {}, {'beta': 1.0}, 'beta is 1.0.*< 1'),
  ('rex_profile', {}, {'beta': math.nan}, 'beta is nan'),
  ('uba_profile', {}, {'phi': -0.1}, 'phi is -0.1.*>= 0'),
  ('rex_schedule', REX, {'decay_steps': 0}, 'decay_steps is 0'),
  ('rex_schedule', REX, {'warmup_steps': -1}, 'warmup_steps is -1'),
  ('rex_schedule', REX, {'beta': 1}, 'beta is 1.*< 1'),
  ('rex_schedule', REX, {'end_value': -1.0}, 'end_value is -1.0'),
  ('uba_schedule', UBA, {'decay_steps': 1.5}, 'decay_steps is 1.5'),
  ('uba_schedule', UBA, {'phi': math.inf}, 'phi is inf'),
  ('uba_schedule', UBA, {'peak_value': -1.0}, 'peak_value is -1.0'),
  ('sampled', SAMPLED, {'every': 0}, 'every is 0.*>= 1'),
  ('sampled', SAMPLED, {'every': 2**31}, 'every is 2147483648'),
  ('sampled', SAMPLED, {'schedule': 0.1}, 'schedule is 0.1'),
  ('inverse_sqrt_schedule', INVERSE, {'warmup_steps': 0}, 'warmup_steps is 0'),
  ('inverse_sqrt_schedule', INVERSE, {'timescale': 3}, 'timescale is 3.*>= 4'),
  ('inverse_sqrt_schedule', INVERSE, {'timescale': 1e4}, 'timescale is 10000'),
  ('noam_schedule', NOAM, {'model_size': 0}, 'model_size is 0.*> 0'),
  ('noam_schedule', NOAM, {'warmup_steps': 0}, 'warmup_steps is 0'),
  ('noam_schedule', NOAM, {'factor': -1.0}, 'factor is -1.0'),
  ('power_schedule', POWER, {'batch_size': 0}, 'batch_size is 0.*>= 1'),
  ('power_schedule', POWER, {'sequence_length': 1.5}, 'sequence_length is 1.5'),
  ('power_schedule', POWER, {'amplitude': 0.0}, 'amplitude is 0.0.*> 0'),
  ('power_schedule', POWER, {'exponent': 0.51}, 'exponent is 0.51.*< 0'),
  ('power_schedule', POWER, {'exponent': math.nan}, 'exponent is nan'),
  ('power_schedule', POWER, {'warmup_steps': -1}, 'warmup_steps is -1'),
  ('refined_schedule', REFINED, {'gradient_norms': [1.0]}, r'shape \(1,\)'),
  ('refined_schedule', REFINED, {'gradient_norms': [[1.0] * 3]}, 'shape'),
  (
    'refined_schedule',
    REFINED,
    {'gradient_norms': [1.0, 0.0, 2.0]},
    r'gradient_norms\[1\] is 0.0.*> 0',
  ),
  (
    'refined_schedule',
    REFINED,
    {'gradient_norms': [1.0, 2.0, -2.0]},
    r'gradient_norms\[2\] is -2.0',
  ),
  (
    'refined_schedule',
    REFINED,
    {'gradient_norms': [math.inf, 2.0]},
    r'gradient_norms\[0\] is inf.*finite',
  ),
  ('refined_schedule', REFINED, {'smoothing': 1.1}, 'smoothing is 1.1.*<= 1'),
  ('refined_schedule', REFINED, {'smoothing': -0.1}, 'smoothing is -0.1'),
  ('refined_schedule', REFINED, {'power': 0}, 'power is 0.*> 0'),
  ('refined_schedule', REFINED, {'peak_value': -1.0}, 'peak_value is -1.0'),
  (
    'piecewise_linear_schedule',
    KNOTS,
    {'steps': [0]},
    '1 steps and 2 values.*as many',
  ),
  ('piecewise_linear_schedule', KNOTS, {'steps': [1, 4]}, r'steps\[0\] is 1'),
  (
    'piecewise_linear_schedule',
    KNOTS,
    {'steps': [0, 0]},
    r'steps\[1\] is 0.*>= 1',
  ),
  (
    'piecewise_linear_schedule',
    KNOTS,
    {'values': [1.0, -1.0]},
    r'values\[1\] is -1',
  ),
]


@pytest.mark.parametrize(('name', 'good', 'wrong', 'message'), WRONG)
def test_refused(name, good, wrong, message):
  with pytest.raises(ValueError, match=f'^{name}.*{message}') as caught:
    getattr(schedules, name)(**{**good, **wrong})
  assert '\n' not in str(caught.value)


def test_a_stateful_schedule_within_another_is_refused():
  inner = schedules.per_task(optax.constant_schedule(0.1))
  with pytest.raises(ValueError, match='state of its own'):
    schedules.per_task(inner)
