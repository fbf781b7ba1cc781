"""What the plots of the gallery show: the values of every line."""

from collections.abc import Mapping
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.gallery import page
from lrcl import schedules

POINTS = 41
"""How many values of a line are kept beside the plots."""


def varied(row: Mapping[str, Any]) -> str:
  """The argument in which the lines of a row differ; '' for a single line."""
  return next(iter(row['vary']), '')


def lines(row: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The values of a row by the label of the line.

  What `vary` names is a kwarg of the call, or else an argument that the
  schedule takes besides the step.
  """
  call, name = row['call'], varied(row)
  if not name:
    return {call['name']: evaluate(call, row)}
  made = {}
  for option in row['vary'][name]:
    label = page.format_label(option)
    if name in call['kwargs']:
      kwargs = {**call['kwargs'], name: option}
      made[label] = evaluate({'name': call['name'], 'kwargs': kwargs}, row)
    else:
      made[label] = evaluate(call, row, **{name: option})
  return made


def evaluate(
  record: Mapping[str, Any], row: Mapping[str, Any], **others: Any
) -> np.ndarray:
  """A schedule over its steps, or along what it is fed."""
  schedule = schedules.build_schedule(record)
  if not isinstance(schedule, optax.schedules.StatefulSchedule):
    steps = jnp.arange(row['steps'] + 1)
    return np.asarray(jax.vmap(lambda s: schedule(s, **others))(steps))

  def step(state: Any, fed: Any) -> tuple[Any, Any]:
    extra_args = dict(map(_make, fed.items()))
    value = schedule(state, **extra_args)
    return schedule.update(state, **extra_args), value

  fed = {name: jnp.asarray(values) for name, values in feeds(row).items()}
  return np.asarray(jax.lax.scan(step, schedule.init(), fed)[1])


def feeds(row: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """What a schedule with a state is given, by name: `[steps]` each."""
  made = {}
  for name, pieces in row['feed'].items():
    values = np.concatenate([np.linspace(*piece) for piece in pieces])
    whole = all(isinstance(end, int) for p in pieces for end in p[:2])
    made[name] = values.astype(np.int32 if whole else np.float32)
  return made


def _make(fed: tuple[str, jax.Array]) -> tuple[str, jax.Array]:
  """An extra arg from what a plot shows of it, by name."""
  name, value = fed
  return ('costs', _costs(value)) if name == 'frames' else fed


def _costs(frames: jax.Array, horizon: int = 10) -> jax.Array:
  """Distances of an agent that follows its expert for so many frames."""
  expert = jnp.arange(horizon)
  agent = jnp.where(expert < frames, expert, 0)
  return jnp.abs(agent[:, None] - expert[None]).astype(jnp.float32)


def format_values(drawn: Mapping[str, Mapping[str, np.ndarray]]) -> str:
  """A few values of every line as JSON, a line of text for each."""
  kept = []
  for name, made in drawn.items():
    parts = [
      f'{json.dumps(label)}: {json.dumps(thin(line))}'
      for label, line in made.items()
    ]
    kept.append(f'{json.dumps(name)}: {{\n  ' + ',\n  '.join(parts) + '\n }')
  return '{\n ' + ',\n '.join(kept) + '\n}\n'


def thin(line: np.ndarray) -> list[float]:
  """Evenly spread values of a line, both ends among them, rounded."""
  pick = np.linspace(0, len(line) - 1, min(POINTS, len(line)))
  return [float(f'{value:.4g}') for value in line[pick.round().astype(int)]]
