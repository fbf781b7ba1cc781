"""Schedules from records: what a configuration or a branch can store."""

from collections.abc import Callable, Mapping
import inspect
from typing import Any

import numpy as np
import optax

from lrcl.schedules import (
  _branch,
  _budgeted,
  _budgeted_profiles,
  _families,
  _feedback,
  _greedy,
  _infinite,
  _infinite_fractions,
  _inverse_sqrt,
  _knots,
  _mastery,
  _power,
  _profiles,
  _progress,
  _refined,
  _rewarming,
  _scalars,
  _stable,
  _task,
)

TABLE: Mapping[str, Callable[..., Any]] = {
  'by_task': _task.by_task,
  'cyclical_fraction_schedule': _scalars.cyclical_fraction_schedule,
  'decay_branch': _branch.decay_branch,
  'geometric_budget_schedule': _scalars.geometric_budget_schedule,
  'greedy': _greedy.greedy,
  'infinite_run_schedule': _infinite_fractions.infinite_run_schedule,
  'infinite_schedule': _infinite.infinite_schedule,
  'infinite_task_schedule': _infinite_fractions.infinite_task_schedule,
  'inverse_sqrt_schedule': _inverse_sqrt.inverse_sqrt_schedule,
  'mastery_staircase': _mastery.mastery_staircase,
  'noam_schedule': _inverse_sqrt.noam_schedule,
  'per_task': _task.per_task,
  'piecewise_linear_schedule': _knots.piecewise_linear_schedule,
  'plateau_per_task': _feedback.plateau_per_task,
  'power_schedule': _power.power_schedule,
  'progress_discount': _progress.progress_discount,
  'refined_schedule': _refined.refined_schedule,
  'repeated_cosine_schedule': _rewarming.repeated_cosine_schedule,
  'rex_schedule': _budgeted.rex_schedule,
  'rewarmed_schedule': _rewarming.rewarmed_schedule,
  'sampled': _budgeted.sampled,
  'token_temperature_schedule': _scalars.token_temperature_schedule,
  'uba_schedule': _budgeted.uba_schedule,
  'wsd_s_schedule': _stable.wsd_s_schedule,
  'wsd_schedule': _stable.wsd_schedule,
  # From optax.
  'constant_schedule': optax.constant_schedule,
  'cosine_decay_schedule': optax.cosine_decay_schedule,
  'exponential_decay': optax.exponential_decay,
  'join_schedules': optax.join_schedules,
  'linear_schedule': optax.linear_schedule,
  'polynomial_schedule': optax.polynomial_schedule,
  'warmup_constant_schedule': optax.warmup_constant_schedule,
  'warmup_cosine_decay_schedule': optax.warmup_cosine_decay_schedule,
}
"""Every schedule that has a record, by name."""

PROFILES: Mapping[str, Callable[..., Any]] = {
  'half_life_profile': _families.half_life_profile,
  'inverse_sqrt_profile': _families.inverse_sqrt_profile,
  'power_profile': _families.power_profile,
  'rex_profile': _budgeted_profiles.rex_profile,
  'uba_profile': _budgeted_profiles.uba_profile,
}
"""Every profile that a schedule's record may hold, by name."""


def build_schedule(
  record: Mapping[str, Any],
) -> optax.Schedule | optax.schedules.StatefulSchedule:
  """Builds a schedule from its recordable form.

  Args:
    record: `{'name': ..., 'kwargs': {...}}` with the name of a schedule of
      this package, or of one of a few of optax. The kwargs are plain JSON. A
      kwarg that is a schedule or a profile, or a list of them, is a record in
      turn.

  Returns:
    The schedule.

  Raises:
    ValueError: if a name or a kwarg is unknown, or a kwarg is missing; and
      whatever the schedule itself refuses.

  Example:
    >>> trunk = {'name': 'constant_schedule', 'kwargs': {'value': 1.0}}
    >>> kwargs = {'schedule': trunk, 'start_step': 4, 'decay_steps': 2}
    >>> branch = build_schedule({'name': 'decay_branch', 'kwargs': kwargs})
    >>> [float(branch(step)) for step in (3, 4, 5, 6)]
    [1.0, 1.0, 0.5, 0.0]
  """
  return _build('build_schedule', record, TABLE)


def describe_schedule(record: Mapping[str, Any]) -> dict[str, Any]:
  """Completes a record: every default filled in, all of it plain JSON.

  Two records that build one schedule with the same arguments have one
  description, so descriptions are what a branch stores and compares.

  Args:
    record: as for `build_schedule`.

  Returns:
    A new record. It builds the same schedule and describes itself.

  Raises:
    ValueError: as `build_schedule`; and if a kwarg has no recordable form, a
      function for example.

  Example:
    >>> record = {'name': 'linear_schedule', 'kwargs': {'init_value': 1.0,
    ...           'end_value': 0.0, 'transition_steps': 10}}
    >>> describe_schedule(record)['kwargs']['transition_begin']
    0
  """
  build_schedule(record)
  return _describe(record)


def _build(where: str, record: Any, table: Mapping[str, Any]) -> Any:
  name, kwargs = _check_record(where, record, table)
  build = lambda value: _build(where, value, {**TABLE, **PROFILES})
  return table[name](**{k: _map_records(build, v) for k, v in kwargs.items()})


def _describe(record: Mapping[str, Any]) -> dict[str, Any]:
  where = 'describe_schedule'
  table = {**TABLE, **PROFILES}
  name, kwargs = _check_record(where, record, table)
  bound = inspect.signature(table[name]).bind(**kwargs)
  bound.apply_defaults()
  plain = {}
  for key, value in bound.arguments.items():
    value = _map_records(_describe, value)
    plain[key] = _to_json(f'{where}: {name}: {key}', value)
  return {'name': name, 'kwargs': plain}


def _map_records(fn: Callable[[Any], Any], value: Any) -> Any:
  """Applies `fn` to `value` if it is a record, or to those in a list."""
  if isinstance(value, Mapping):
    return fn(value)
  if isinstance(value, list | tuple):
    return [_map_records(fn, item) for item in value]
  return value


def _check_record(
  where: str, record: Any, table: Mapping[str, Callable[..., Any]]
) -> tuple[str, Mapping[str, Any]]:
  """Returns the name and the kwargs of a record that is well formed."""
  keys = set(record) if isinstance(record, Mapping) else {None}
  if not {'name'} <= keys <= {'name', 'kwargs'}:
    raise ValueError(
      f'{where}: the record is {record!r}; it must be a dict '
      "{'name': ..., 'kwargs': {...}}."
    )
  name, kwargs = record['name'], record.get('kwargs', {})
  if not isinstance(name, str) or name not in table:
    raise _profiles.unknown_name(where, 'name', name, sorted(table))
  parameters = inspect.signature(table[name]).parameters
  for key in kwargs:
    if key not in parameters:
      raise _profiles.unknown_name(where, f'a kwarg of {name}', key, parameters)
  for key, parameter in parameters.items():
    if parameter.default is parameter.empty and key not in kwargs:
      raise ValueError(f'{where}: {name} lacks {key}; it must be given.')
  return name, kwargs


def _to_json(where: str, value: Any) -> Any:
  """Turns numpy and jax numbers into Python's, tuples into lists."""
  if value is None or isinstance(value, bool | int | float | str | dict):
    return value
  if isinstance(value, list):
    return [_to_json(where, item) for item in value]
  if hasattr(value, 'dtype') and np.ndim(value) <= 1:
    return np.asarray(value).tolist()
  raise ValueError(
    f'{where} is {value!r}, which has no recordable form; it must be a '
    'number, a string, a list of them, or a record.'
  )
