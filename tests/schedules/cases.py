"""What the batteries of schedules share: a case, and what it may be asked."""

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

  @property
  def full_record(self) -> dict[str, Any]:
    kwargs = self.kwargs if self.record is None else self.record
    return {'name': self.fn.__name__, 'kwargs': dict(kwargs)}

  @functools.cached_property
  def schedule(self) -> optax.Schedule:
    return self.fn(**self.kwargs)

  @functools.cached_property
  def values(self) -> np.ndarray:
    """The schedule over its steps, under jit and vmap."""
    return over(self.schedule, self.steps)

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


def over(schedule: optax.Schedule, steps: Any) -> np.ndarray:
  """The schedule over many steps, under jit and vmap."""
  return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)))


VALUE = float | jax.Array


def values_of(record: Mapping[str, Any], path: str = '') -> dict[str, float]:
  """All that may be traced in a record and in those within it, by path."""
  fn = getattr(schedules, record['name'])
  values = {}
  for name, parameter in inspect.signature(fn).parameters.items():
    value = record['kwargs'].get(name, parameter.default)
    if isinstance(value, Mapping):
      values |= values_of(value, f'{path}{name}/')
    elif parameter.annotation in (VALUE, VALUE | None) and value is not None:
      values[f'{path}{name}'] = value
  return values


def with_values(record: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
  """The record with other values."""
  kwargs = dict(record['kwargs'])
  for path, value in values.items():
    name, *rest = path.split('/', 1)
    if rest:
      kwargs[name] = with_values(kwargs[name], {rest[0]: value})
    else:
      kwargs[name] = value
  return {'name': record['name'], 'kwargs': kwargs}


def check_gradients(case: Case) -> None:
  """All that may be traced has a finite gradient, and the same values."""
  values = values_of(case.full_record)

  def at(values, step):
    return schedules.build_schedule(with_values(case.full_record, values))(step)

  grads = jax.value_and_grad(at)
  got, grads = jax.jit(jax.vmap(grads, (None, 0)))(values, case.steps)
  tolerance = 1e-7 * case.scale
  np.testing.assert_allclose(got, case.values, rtol=2e-6, atol=tolerance)
  for name, grad in grads.items():
    assert np.all(np.isfinite(grad)), name
    assert name.endswith('_value') or np.any(grad != 0), name
  assert any(np.any(grad != 0) for grad in grads.values())


def check_bits(case: Case) -> None:
  """Eager, jit, vmap and scan give the same bits."""
  values = case.values
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


def check_golden(case: Case) -> None:
  """The values are those of the case, finite and not negative everywhere."""
  values = case.values
  assert values.dtype == np.float32
  assert np.all(np.isfinite(values)) and np.all(values >= 0)
  at = lambda step: values[step] if step < values.size else case.schedule(step)
  got, want = [at(step) for step in case.golden], list(case.golden.values())
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7 * case.scale)


def check_jumps(case: Case) -> None:
  """It jumps where it is said to, and nowhere else."""
  edges = case.steps[1:].astype(np.float32)
  rise = over(case.schedule, edges) - over(case.schedule, edges - 1e-3)
  jumps = edges[np.abs(rise) > 0.01 * case.scale]
  np.testing.assert_array_equal(jumps, case.jumps)


def check_record(case: Case) -> None:
  """Its record, through JSON, builds the same schedule."""
  full = schedules.describe_schedule(case.full_record)
  assert schedules.describe_schedule(full) == full
  built = schedules.build_schedule(json.loads(json.dumps(full)))
  np.testing.assert_array_equal(built(case.steps), case.values)
