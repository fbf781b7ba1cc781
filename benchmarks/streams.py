"""What a plan of ten million steps costs, and what a step far out in it does.

python -m benchmarks.streams [--steps=10000000] [--repeats=31]

For every scenario that has no end of its own: the time of `chunk` of 50 steps
at random places over that in the first thousandth (medians over repeats,
interleaved, wanted at most 1.2), that of `next_boundary`, and the peak of
memory while the plan is made and read at 30 places, over that of a plan of a
thousandth of the length (wanted at most 1.2).
"""

# isort: skip_file
import dataclasses
import statistics
import time
import tracemalloc

from absl import app, flags

from benchmarks import one_thread  # noqa: F401  before jax
import numpy as np

from lrcl import schedules, streams

_STEPS = flags.DEFINE_integer('steps', 10_000_000, 'Steps of a plan.')
_REPEATS = flags.DEFINE_integer('repeats', 31, 'Readings of each, interleaved.')
CHUNK, BATCH, ROWS, CLASSES = 50, 32, 60_000, 10
WANTED = 1.2


def make_data():
  labels = np.random.default_rng(0).integers(0, CLASSES, ROWS)
  return {'inputs': np.zeros((ROWS, 1), np.uint8), 'labels': labels}


def drift(steps):
  return schedules.wsd_schedule(1.0, steps // 4, steps // 4, steps // 2)


def make_cases(data):
  """`{label: steps -> stream}`."""
  whole = streams.joint(streams.split(data, num_tasks=5, batch_size=BATCH))
  tasks = lambda length: streams.split(
    data, num_tasks=5, batch_size=BATCH, steps_per_task=length
  )
  longer = lambda stream, steps: dataclasses.replace(
    stream, plan=dataclasses.replace(stream.plan, num_steps=steps)
  )
  endless = lambda function, steps, **kwargs: function(
    data,
    batch_size=BATCH,
    steps_per_task=200,
    num_tasks=steps // 200,
    **kwargs,
  )
  curriculum = streams.cyclical_curriculum(whole, np.ones(ROWS))
  return {
    'split': lambda steps: tasks(steps // 5),
    'split, repeated views': lambda steps: streams.repeat_views(
      tasks(steps // 5), 4
    ),
    'scole': lambda steps: endless(streams.scole, steps),
    'scole, cyclic': lambda steps: endless(
      streams.scole, steps, cycle=range(CLASSES)
    ),
    'shuffled labels': lambda steps: endless(streams.shuffled_labels, steps),
    'mixture by schedules': lambda steps: streams.mixture(
      tasks(100), [drift(steps), 0.5, 0.5, 0.5, 0.5], steps=steps
    ),
    'power law': lambda steps: streams.reoccurring(
      tasks(steps // 5), num_steps=steps
    ),
    'cyclical curriculum': lambda steps: longer(curriculum, steps),
  }


def seconds(call):
  began = time.perf_counter()
  call()
  return time.perf_counter() - began


def read(stream, step):
  """A chunk; every call takes a place of its own, so nothing is cached."""
  return seconds(lambda: stream.chunk(step, CHUNK))


def measure_time(stream, repeats):
  """Median seconds of `chunk` early on, anywhere, and of a boundary."""
  rng = np.random.default_rng(1)
  near, far, boundary = [], [], []
  last = stream.num_steps - CHUNK
  stream.chunk(0, CHUNK), stream.chunk(last, CHUNK), stream.next_boundary(last)
  for _ in range(repeats):
    away, place = rng.integers(0, last, 2)
    far.append(read(stream, int(place)))
    near.append(read(stream, int(place) // 1000))
    boundary.append(seconds(lambda at=int(away): stream.next_boundary(at)))
  return [statistics.median(times) for times in (near, far, boundary)]


def measure_peak(make, steps):
  """Bytes while a plan is made and read here and there."""
  places = np.random.default_rng(2).uniform(0, 1, 30)
  tracemalloc.start()
  stream = make(steps)
  for place in places:
    step = int(place * (steps - CHUNK))
    stream.chunk(step, CHUNK), stream.next_boundary(step)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return peak


def main(_):
  steps, missed = _STEPS.value, 0
  print(f'{"stream":24}{"chunk":>9}{"far":>7}{"boundary":>10}{"memory":>8}')
  for label, make in make_cases(make_data()).items():
    near, far, boundary = measure_time(make(steps), _REPEATS.value)
    measure_peak(make, steps)  # what is compiled and kept on a first call
    memory = measure_peak(make, steps) / measure_peak(make, steps // 1000)
    ratio = far / near
    missed += ratio > WANTED or memory > WANTED
    print(
      f'{label:24}{near * 1e3:6.2f} ms{ratio:7.2f}{boundary * 1e3:7.3f} ms'
      f'{memory:8.2f}',
      flush=True,
    )
  print(f'{missed} rows above {WANTED}; memory is over {steps // 1000} steps')


if __name__ == '__main__':
  app.run(main)
