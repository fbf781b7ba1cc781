# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # LRCL in five minutes
#
# One model learns ten digits, two at a time. It runs under an *infinite*
# schedule, which never decays; to see what the run is worth at some moment, a
# *decay branch* forks off. A replay memory and a projection of the weights sit
# in the same optax chain.

# %%
# Installs LRCL where it is missing: from the repository that holds this
# notebook, or from wherever LRCL_SOURCE points (a path, or a git address).
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec('lrcl') is None:
  source = os.environ.get('LRCL_SOURCE', '..')
  subprocess.run([sys.executable, '-m', 'pip', 'install', source], check=True)

# %%
# What is this machine, and how long shall the run be?
import tempfile

import jax
import jax.numpy as jnp
import optax

from lrcl import methods, metrics, models, schedules, streams, training

SMOKE = bool(os.environ.get('LRCL_SMOKE'))
STEPS, DECAY = (6, 3) if SMOKE else (120, 60)
print(jax.default_backend(), jax.device_count(), 'device(s)')

# %% [markdown]
# ## The stream
#
# A stream is a plan: a pure function from the step to the rows of its batch.

# %%
train, test = streams.digits()
stream = streams.split(
  train, num_tasks=5, batch_size=16, steps_per_task=STEPS, test=test
)
print(stream.num_steps, 'steps; tasks begin at 0 and', stream.boundaries)

# %% [markdown]
# ## The schedule
#
# In its recordable form, so that each branch knows what it ran under.

# %%
trunk = {
  'name': 'infinite_schedule',
  'kwargs': {
    'peak_value': 0.1,
    'constant_value': 0.05,
    'warmup_steps': STEPS // 3,
    'cooldown_steps': STEPS,
  },
}


def decay_of(start):
  kwargs = {'schedule': trunk, 'start_step': start, 'decay_steps': DECAY}
  return {'name': 'decay_branch', 'kwargs': kwargs}


schedule = schedules.build_schedule(trunk)
print([round(float(schedule(s)), 3) for s in range(0, 2 * STEPS, STEPS // 3)])

# %% [markdown]
# ## The method: one chain

# %%
module = models.MLP((128, 128), stream.num_classes, normalize=True)
init_fn, apply_fn = models.from_module(module, train['inputs'][:1])


def make_tx(record):
  chain = optax.chain(
    methods.add_memory_gradient(),
    methods.scale_by_schedule_value(schedules.build_schedule(record)),
    methods.normalize_and_project(mask=models.nap_mask),
  )
  return methods.with_memory(
    chain, capacity=100, example=stream.batch_spec, batch_size=16
  )


def learner_under(record):
  return training.Learner(make_tx(record), apply_fn)


# %% [markdown]
# ## The run, and a decay from the end of the third task

# %%
learner = learner_under(trunk)
evaluate = training.make_evaluator(learner, stream)
state = training.create_state(init_fn, learner.tx, jax.random.key(0))
branches = training.Branches(tempfile.mkdtemp())
branches.create('main', schedule=trunk)
state, records = training.train_stream(
  learner, state, stream, branches=branches, evaluate=evaluate
)
for record in records:
  if record['task_end']:
    accuracy = [f'{a:.2f}' for a in record['metrics']['accuracy']]
    print('after task', record['task'], accuracy)

# %%
fork = stream.boundaries[2]
branches.fork('main', fork, 'decay', schedule=decay_of(fork))
start = branches.restore('decay', schedule=decay_of(fork))
decayed, decay_records = training.train_stream(
  learner_under(decay_of(fork)),
  start.state,
  stream.hold(fork),  # the third task goes on
  steps=fork + DECAY,
  branches=branches,
  branch='decay',
  evaluate=evaluate,
)
for name, lineage in branches.tree().items():
  print(name, 'from', lineage.parent, 'at', lineage.fork_step)

# %% [markdown]
# ## What came of it
#
# The accuracy over the tasks seen so far, at the fork and after the decay.

# %%
before = next(r for r in records if r['step'] == fork)['metrics']['accuracy']
after = decay_records[-1]['metrics']['accuracy']
print(f'at the fork     {jnp.mean(jnp.array(before[:3])):.3f}')
print(f'after the decay {jnp.mean(jnp.array(after[:3])):.3f}')

# %%
matrix = jnp.array([r['metrics']['accuracy'] for r in records if r['task_end']])
print(f'average accuracy {metrics.average_accuracy(matrix):.3f}')
print(f'forgetting       {metrics.forgetting(matrix):.3f}')
branches.close()
