"""CPU time of a step of each method over that of the bare optimizer.

python -m benchmarks.methods [--data_dir=DIR] [--repeats=9] [--only=ewc]

One row per method: MLP 784-400-400-10, batch 128, SGD (the setting `std` of
benchmarks/problem.py; random images of that shape where Fashion-MNIST is not
there). Every method has consolidated before the clock starts, so its penalty
is at work, and the stream has five tasks, so that what happens at a change of
task is in the time. `continual_backprop` replaces units at its default rate.
A look back at a task's data is not in the time, since it is no step, nor is an
exchange of `drop_and_grow`, which is due at every 400th; the lines below the
table give them apart, and what it takes to replace a unit. The last ones hold a
step among 50 tasks against one among 5: what is consolidated online must not
grow with their number.

Each ratio is that of the medians over repeats of runs through `train_stream`,
interleaved A/B/A/B in one process on one thread, warm. Wanted are at most 1.3
for penalties, projections and whatever else adds no pass through the model, and
2.2 for replay of as many rows as the batch has: two gradients, 1.1 for each. A
projection on what replay gives may take what both take, 2.2 + 0.3. What
`orthogonal_gradient` takes grows with the copies of the parameters that it
reads twice: five are held to the limit of a projection, twenty to 0.3 for each
five.

Where the algorithm itself needs more passes there is no limit. The column
`each` divides the ratio by the gradients that were counted, a pass forward
being a third of one, so that what is left is what the passes do not explain:

* `retrieve_interfered` scores as many candidates as the batch has by two passes
  forward, and replays half of them;
* `relabel_memory` with two levels takes half as many rows: a pass forward over
  them, and a gradient over each under both of its labels;
* `gss` takes the gradient of each row of the batch, by way of the whole batch,
  of the batch, of ten batches of the memory, and of what is replayed. It is
  measured in the setting `online`, where a batch has ten rows, and against the
  bare optimizer there;
* the policy `importance` measures 64 rows of the memory twice, forward only;
* `refresh` takes a gradient of its own, and draws a normal number for each
  parameter, which takes a CPU about as long; with and without that noise.

What a method moves in memory counts for more where the arithmetic is faster
against it, and more on a quiet machine. In three runs on one whose bare step
took 2.3 to 3.2 ms, these were above what is wanted at least once:
`riemannian_walk` (1.25, 1.42, 1.48), five copies under `orthogonal_gradient`
(1.41 to 1.42) and twenty (2.44, 2.49, 2.88), `dynamic_ema` (1.56 to 1.60),
`project_on_memories` (2.50 to 2.52) and replay with the policy `class_balanced`
(2.17, 2.19, 2.28).

A method of one's own is one more row of `method_rows.ROWS`.
"""

# isort: skip_file
import dataclasses
import functools
import statistics
import time
from typing import Any

from absl import app, flags

from benchmarks import one_thread  # noqa: F401  before jax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import problem
from benchmarks.method_rows import (
  ROWS,
  SETTING,
  make_model,
  rate,
  recycle,
  sparse,
)
from lrcl import methods, streams, training

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Where TFDS data sets are.')
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Runs of each, interleaved.')
_STEPS = flags.DEFINE_integer('steps_per_task', 40, 'Steps in each task.')
_ONLY = flags.DEFINE_string(
  'only',
  '',
  'Only rows whose label contains one of these, by commas; no other lines.',
)


@functools.cache
def load():
  """Fashion-MNIST's training data, or random images of its shape."""
  try:
    name, train, _ = problem.load(_DATA_DIR.value)
    return name, train
  except SystemExit:
    rng = np.random.default_rng(0)
    rows = 10 * SETTING.batch_size * _STEPS.value
    inputs = rng.integers(0, 256, (rows, 28, 28, 1), np.uint8)
    labels = np.arange(rows, dtype=np.int32) % 10
    return 'random images', {'inputs': inputs, 'labels': labels}


@functools.cache
def make_stream(setting, make=streams.split, num_tasks=problem.TASKS):
  stream = make(
    load()[1],
    num_tasks=num_tasks,
    batch_size=setting.batch_size,
    steps_per_task=_STEPS.value,
    transform=problem.normalize,
  )
  source: Any = stream.source
  source = {name: jnp.asarray(column) for name, column in source.items()}
  return dataclasses.replace(stream, source=source)


def make_run(stream, model, tx):
  """A function that trains all tasks, and what a step of it costs."""
  init_fn, apply_fn = model
  learner = training.Learner(tx, apply_fn)
  state = training.create_state(init_fn, tx, jax.random.key(0))
  fisher = jax.tree.map(jnp.ones_like, state.params)
  directions = jax.tree.map(lambda p: p[None], state.params)
  opt_state = methods.consolidate(
    state.opt_state, state.params, fisher=fisher, directions=directions
  )
  state = jax.block_until_ready(state._replace(opt_state=opt_state))

  def run():
    end, _ = training.train_stream(learner, state, stream)
    jax.block_until_ready(end)

  return run, training.step_cost(learner, state, stream)


def seconds(run) -> float:
  began = time.process_time()
  run()
  return time.process_time() - began


def medians(*runs, repeats=None) -> list[float]:
  """Of interleaved repeats, after one that compiles."""
  for run in runs:
    run()
  repeats = _REPEATS.value if repeats is None else repeats
  times = [[seconds(run) for run in runs] for _ in range(repeats)]
  return [statistics.median(spent) for spent in zip(*times, strict=True)]


def measure(label, row) -> bool | None:
  """Prints one line; whether the ratio is within its limit, if it has one."""
  stream, model = make_stream(row.setting), make_model(row.setting)
  bare, _ = make_run(stream, model, row.bare())
  run, cost = make_run(stream, model, row.make(stream))
  base, ours = medians(bare, run)
  ratio, limit = ours / base, row.wanted
  print(
    f'{label:35}{ratio:6.2f}{"" if limit is None else format(limit, ".1f"):>7}'
    f'{ratio / cost["gradient_evaluations"]:7.2f}'
    f'{1e3 * ours / stream.num_steps:8.2f} ms'
    f'{cost["forward_passes"]:9.1f}{cost["backward_passes"]:7.1f}'
    f'{cost["memory_bytes"] / 1e6:9.2f}{cost["state_bytes"] / 1e6:8.2f} MB',
    flush=True,
  )
  return None if limit is None else ratio <= limit


PASSES = {
  'fisher_diagonal, empirical': functools.partial(
    methods.fisher_diagonal, estimator='empirical'
  ),
  'fisher_diagonal, exact': methods.fisher_diagonal,
  'mas_importance': methods.mas_importance,
}


def measure_passes(stream, model) -> None:
  """Prints what a look back costs, in steps over as many examples."""
  init_fn, apply_fn = model
  params, _ = init_fn(jax.random.key(0))
  shape = (_STEPS.value, SETTING.batch_size)
  key = jax.random.key(1)
  batches = {
    'inputs': jax.random.normal(key, (*shape, 784)),
    'labels': jax.random.randint(key, shape, 0, 10),
    'weight': jnp.ones(shape),
  }
  bare, _ = make_run(stream, model, rate())
  for label, importance in PASSES.items():
    look = lambda f=importance: jax.block_until_ready(
      f(apply_fn, params, batches)
    )
    base, ours = medians(bare, look)
    print(f'{label:35}{ours / base * problem.TASKS:6.2f}', flush=True)


def measure_apart(label, rarely, often, times) -> None:
  """Prints what is done `times` more `often`, in steps of the optimizer."""
  stream, model = make_stream(SETTING), make_model()
  runs = [make_run(stream, model, tx)[0] for tx in (rate(), rarely, often)]
  base, few, many = medians(*runs)
  steps = (many - few) / times / (base / stream.num_steps)
  print(f'{label:35}{steps:6.2f}', flush=True)


def measure_exchange(every=4) -> None:
  """Prints what one exchange of entries costs."""
  stream = make_stream(SETTING)
  rarely, often = sparse(stream, stream.num_steps), sparse(stream, every)
  times = problem.TASKS * ((_STEPS.value - 1) // every)
  measure_apart('an exchange of drop_and_grow', rarely, often, times)


def measure_replacement(each=2) -> None:
  """Prints what it costs to replace a unit of each layer."""
  make = functools.partial(recycle, methods.continual_backprop, maturity=0)
  often = make(replacement_rate=1 / each / SETTING.width)
  times = make_stream(SETTING).num_steps // each
  label = 'a unit of each layer replaced'
  measure_apart(label, make(replacement_rate=0.0), often, times)


ONLINE_FORMS = (
  'add_l2_anchor, at each task',
  'synaptic_intelligence',
  'ewc_plus_plus',
  'riemannian_walk',
)


def measure_growth(few=problem.TASKS, many=50) -> None:
  """Prints a step among many permuted tasks over one among few."""
  for label in ONLINE_FORMS:
    runs, steps = [], []
    for num_tasks in (few, many):
      stream = make_stream(SETTING, streams.permuted, num_tasks)
      tx = ROWS[label].make(stream)
      runs.append(make_run(stream, make_model(), tx)[0])
      steps.append(stream.num_steps)
    spent = medians(*runs, repeats=min(3, _REPEATS.value))
    ratio = spent[1] / steps[1] / (spent[0] / steps[0])
    print(f'{label:35}{ratio:6.2f}', flush=True)


def measure_rest() -> None:
  """Prints what is in no row."""
  print('one look back at a task, in steps of the bare optimizer over it')
  measure_passes(make_stream(SETTING), make_model())
  print('what is not done at every step, in steps of the bare optimizer')
  measure_exchange()
  measure_replacement()
  print('a step among 50 tasks over one among 5')
  measure_growth()


def main(argv: list[str]) -> None:
  del argv
  name, _ = load()
  print(f'{name}; one thread; medians of {_REPEATS.value}')
  head = ' ratio wanted   each     a step  forward   back   memory   state'
  print(f'{"":35}{head}')
  parts = _ONLY.value.split(',')
  rows = {k: v for k, v in ROWS.items() if any(part in k for part in parts)}
  found = [measure(k, row) for k, row in rows.items()]
  good = [is_within for is_within in found if is_within is not None]
  if not _ONLY.value:
    measure_rest()
  print(f'{sum(good)} of {len(good)} within what is wanted')


if __name__ == '__main__':
  app.run(main)
