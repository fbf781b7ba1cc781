"""Made-up records with the look of a class-incremental run.

python tests/reports/made_records.py WORKDIR writes them, `--page` draws the
report too.
"""

from collections.abc import Sequence
import dataclasses
import json
import math
import pathlib
import sys

import numpy as np

PEAK, CONSTANT, WARMUP, COOLDOWN = 0.1, 0.05, 20, 60
VERSIONS = {'lrcl': '0.1.0', 'jax': '0.10.2', 'optax': '0.2.8'}
SCHEDULE = {
  'name': 'infinite_schedule',
  'kwargs': {
    'peak_value': PEAK,
    'constant_value': CONSTANT,
    'warmup_steps': WARMUP,
    'cooldown_steps': COOLDOWN,
  },
}


@dataclasses.dataclass(frozen=True)
class Learner:
  """How a made-up method behaves: levels of accuracy, and times in steps."""

  kept: float  # an old task's accuracy once things have settled
  gap: float  # how deep it dips below that after a switch
  gain: float  # what a decay adds
  floor: float = 0.15  # the loss it reaches


LEARNERS = {
  'naive': Learner(0.0, 0.0, 0.0, 0.08),
  'ewc': Learner(0.01, 0.0, 0.0, 0.1),
  'replay': Learner(0.86, 0.32, 0.028),
  'replay_ewc_nap': Learner(0.89, 0.2, 0.03, 0.18),
}


def learning_rate(step: float) -> float:
  if step < WARMUP:
    return PEAK * step / WARMUP
  phase = min(1.0, (step - WARMUP) / COOLDOWN)
  return CONSTANT + (PEAK - CONSTANT) * (1 + math.cos(math.pi * phase)) / 2


@dataclasses.dataclass(frozen=True)
class World:
  tasks: int = 5
  seeds: tuple[int, ...] | None = (0, 1, 2)
  task_steps: int = 200
  every: int = 20
  decay_steps: int = 80

  @property
  def count(self) -> int:
    return 1 if self.seeds is None else len(self.seeds)

  def accuracy(self, learner, step, rng, decayed=0.0, hold=None):
    """Accuracies `[S, T]` after `step` steps; `hold` freezes the task."""
    out = np.zeros((self.count, self.tasks))
    now = (step - 1) // self.task_steps if hold is None else hold
    for task in range(now + 1):
      age = step - task * self.task_steps
      level = 0.975 * (1 - math.exp(-age / 18))
      if task < now:
        since = step - now * self.task_steps
        aged = learner.kept - 0.012 * (now - task - 1)
        dip = learner.gap * math.exp(-since / 35) * (1 - math.exp(-since / 5))
        fade = 0.97 * math.exp(-since / 9) * (now - task == 1)
        level = max(aged - dip, fade, 0.0)
      out[:, task] = level + learner.gain * decayed * (level > 0.05)
    noise = 0.012 * (1 - 0.6 * decayed) * rng.standard_normal(out.shape)
    return np.where(out > 0.005, np.clip(out + noise, 0, 1), 0.0)

  def loss(self, learner, step, rng, decayed=None):
    since = step % self.task_steps
    spike = 3.2 if step >= self.task_steps else 2.2
    level = learner.floor * (1 - 0.5 * (decayed or 0.0))
    if decayed is None:
      level += spike * math.exp(-since / 14)
    noise = rng.lognormal(0.0, 0.25, self.count)
    return level * noise


def _listed(world: World, values: np.ndarray) -> list:
  """Lists per seed, or one list where the run has no seeds."""
  return values.round(5).tolist() if world.seeds else values[0].tolist()


def _record(world, row, branch, step, task, rows, **fields):
  return {
    'step': step,
    'task': task,
    'task_end': False,
    'num_tasks': world.tasks,
    'row': row,
    'branch': branch,
    'parent': None,
    'learning_rate': None,
    'schedule_count': step,
    'schedule': SCHEDULE,
    'seeds': None if world.seeds is None else list(world.seeds),
    'metrics': {'accuracy': _listed(world, rows)},
    'trace': None,
    'config': f'config-of-{row}',
    'plan': 'a11ce' * 12,
    'versions': VERSIONS,
  } | fields


def _evaluations(world, learner, row, branch, steps, rng, decay=None):
  """One record per `every` steps of `steps`; `decay` is a fork step."""
  records = []
  first = steps.start
  for step in range(first + world.every, steps.stop + 1, world.every):
    chunk = range(step - world.every, step)
    fraction = lambda s: 0.0 if decay is None else (s - decay) / len(steps)
    rate = [
      CONSTANT * (1 - fraction(s)) if decay is not None else learning_rate(s)
      for s in chunk
    ]
    loss = np.array(
      [
        world.loss(learner, s, rng, None if decay is None else fraction(s))
        for s in chunk
      ]
    ).T
    task = (step - 1) // world.task_steps
    hold = None
    if decay is not None:
      task = hold = (decay - 1) // world.task_steps
    rows = world.accuracy(learner, step, rng, fraction(step), hold)
    cost = 2.0 if 'replay' in row else 1.0
    metrics = {
      'accuracy': _listed(world, rows),
      'forward_passes': cost,
      'backward_passes': cost,
      'gradient_evaluations': cost * step,
      'memory_bytes': 24_000.0 if 'replay' in row else 0.0,
      'stored_bytes': 25_600.0 if 'replay' in row else 0.0,
    }
    records.append(
      _record(
        world,
        row,
        branch,
        step,
        task,
        rows,
        task_end=decay is None and step % world.task_steps == 0,
        learning_rate=rate[-1],
        metrics=metrics,
        trace={
          'start': step - world.every,
          'loss': _listed(world, loss),
          'learning_rate': rate,
        },
      )
    )
  return records


def contender(world: World, row: str, learner: Learner) -> list[dict]:
  """Main and one decay branch per task end."""
  rng = np.random.default_rng(sum(map(ord, row)))
  total = world.tasks * world.task_steps
  records = _evaluations(world, learner, row, 'main', range(total), rng)
  for fork in range(world.task_steps, total + 1, world.task_steps):
    steps = range(fork, fork + world.decay_steps)
    branch = f'decay-{fork}'
    schedule = {
      'name': 'decay_branch',
      'kwargs': {
        'schedule': SCHEDULE,
        'start_step': fork,
        'decay_steps': world.decay_steps,
      },
    }
    for record in _evaluations(
      world, learner, row, branch, steps, rng, decay=fork
    ):
      records.append(record | {'parent': ['main', fork], 'schedule': schedule})
  return records


def single(world: World, row: str, level: float, noise: float) -> list[dict]:
  """A reference row that is not trained: one line."""
  rng = np.random.default_rng(1)
  rows = level + noise * rng.standard_normal((world.count, world.tasks))
  return [
    _record(
      world, row, 'main', 0, world.tasks - 1, rows, task_end=True, schedule=None
    )
  ]


def joint(world: World) -> list[dict]:
  """All classes at once: one task of the full length."""
  rng = np.random.default_rng(2)
  records = []
  total = world.tasks * world.task_steps
  for step in range(world.every, total + 1, world.every):
    level = 0.968 * (1 - math.exp(-step / 60))
    noise = 0.006 * rng.standard_normal((world.count, world.tasks))
    fields = {
      'task_end': step == total,
      'learning_rate': learning_rate(step - 1),
      'plan': 'b0b' * 20,
    }
    records.append(
      _record(world, 'joint', 'main', step, 0, level + noise, **fields)
    )
  return records


def make_records(
  world: World | None = None, rows: Sequence[str] | None = None
) -> list[dict]:
  """All the lines of a comparison, in no particular order of rows."""
  world = world or World()
  records = []
  for row, learner in LEARNERS.items():
    records += contender(world, row, learner)
  records += joint(world)
  records += single(world, 'nearest_mean', 0.897, 0.004)
  records += single(world, 'chance', 0.1, 0.0)
  return [r for r in records if rows is None or r['row'] in rows]


def write_records(records: Sequence[dict], workdir) -> pathlib.Path:
  """Writes `<workdir>/<row>/<branch>/records.jsonl`."""
  workdir = pathlib.Path(workdir)
  for record in records:
    path = workdir / record['row'] / record['branch'] / 'records.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
      file.write(json.dumps(record) + '\n')
  return workdir


if __name__ == '__main__':
  write_records(make_records(), sys.argv[1])
  if '--page' in sys.argv:
    from lrcl import reports

    made = reports.read_records(sys.argv[1])
    print(reports.write_report(sys.argv[1]))
    reports.print_table(made)
    reports.draw_branched_run(made, pathlib.Path(sys.argv[1]) / 'run.png')
    print(reports.format_tree(made))
