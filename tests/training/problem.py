"""A small stream and learners for the tests of the loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import methods, metrics, models, streams, training

FEATURES, CLASSES, BATCH = 6, 4, 8


def arrays(seed=0, rows=64):
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(CLASSES, dtype=np.int32), rows // CLASSES)
  centres = rng.normal(size=(CLASSES, FEATURES))
  inputs = centres[labels] + 0.5 * rng.normal(size=(rows, FEATURES))
  return {'inputs': inputs.astype(np.float32), 'labels': labels}


def stream(lengths=(20, 12, 15), seed=0, source=None):
  """Tasks of the given numbers of steps, on two or more classes each."""
  train = arrays()
  pools = [
    np.flatnonzero(np.isin(train['labels'], [t % CLASSES, (t + 1) % CLASSES]))
    for t in range(len(lengths))
  ]
  plan = streams.make_plan(
    pools, list(enumerate(lengths)), batch_size=BATCH, seed=seed
  )
  sets = streams.EvalSet(
    train,
    np.stack([p[:24] for p in pools]).astype(np.int32),
    np.ones((len(pools), 24), np.float32),
    {},
    prepare,
  )
  return streams.Stream(
    train if source is None else source,
    plan,
    {},
    prepare,
    sets,
    CLASSES,
    len(lengths),
  )


def prepare(rows, tables, task_id):
  del tables, task_id
  return dict(rows)


class Host:
  """The same rows as `arrays`, gathered on the host."""

  def __init__(self):
    self._arrays = arrays()

  def __len__(self):
    return len(self._arrays['labels'])

  def rows(self, indices):
    return {k: v[indices] for k, v in self._arrays.items()}

  def describe(self):
    return 'host'


def model(normalize=False):
  module = models.MLP(
    (8,), CLASSES, normalize=normalize, activation=jax.nn.gelu
  )
  return models.from_module(module, jnp.zeros((1, FEATURES)))


def example():
  return {
    'inputs': jnp.zeros((BATCH, FEATURES)),
    'labels': jnp.zeros(BATCH, jnp.int32),
    'weight': jnp.zeros(BATCH),
    'task': jnp.zeros(BATCH, jnp.int32),
  }


effective_rate = functools.partial(
  metrics.effective_learning_rate, kind='adam', mask=models.nap_mask
)


def everything(schedule=0.05, capacity=16, init_and_apply=None):
  """Replay, EWC, Adam and NaP in one chain, with EWC's end of a task."""
  init_fn, apply_fn = init_and_apply or model(normalize=True)
  chain = optax.chain(
    methods.add_memory_gradient(0.5),
    methods.add_ewc_penalty(2.0),
    optax.clip_by_global_norm(5.0),
    optax.scale_by_adam(),
    methods.scale_by_schedule_value(schedule),
    methods.normalize_and_project(mask=models.nap_mask),
  )
  tx = methods.with_memory(chain, capacity, example(), BATCH)

  def on_task_end(state, task_data, key):
    fisher = methods.fisher_diagonal(apply_fn, state.params, task_data)
    opt_state = methods.consolidate(
      state.opt_state, state.params, fisher=fisher
    )
    return state._replace(opt_state=opt_state)

  return init_fn, training.Learner(
    tx, apply_fn, on_task_end=on_task_end, effective_rate=effective_rate
  )


def plain(schedule=0.05):
  init_fn, apply_fn = model()
  tx = methods.scale_by_schedule_value(schedule)
  return init_fn, training.Learner(tx, apply_fn)


def new_state(init_fn, learner, seed=0):
  return training.create_state(init_fn, learner.tx, jax.random.key(seed))
