"""From a configuration to streams, models, chains and learners.

Names map to functions through the dicts below, never through `getattr`.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import dated_texts
from lrcl import (
  base,
  methods,
  metrics,
  models,
  schedules,
  streams,
  training,
)

Config = Mapping[str, Any]


def digits(config: Config) -> dict[str, Any]:
  """The 1,797 digits of scikit-learn, as they are."""
  del config
  train, test = streams.digits()
  return {'train': train, 'test': test}


def tfds(config: Config) -> dict[str, Any]:
  """Any image set of tensorflow-datasets: `data.set`, `data.data_dir`."""
  data_dir = config['data_dir'] or None
  train, test = (
    streams.from_tfds(config['set'], split, data_dir=data_dir)
    for split in ('train', 'test')
  )
  return {'train': train, 'test': test, 'transform': to_unit}


def texts(config: Config) -> dict[str, Any]:
  """Texts with dates: `data.set`, `data.data_dir`."""
  found, dates = dated_texts.read_dated_texts(config['set'], config['data_dir'])
  return {'texts': found, 'dates': dates}


def to_unit(images: jax.Array) -> jax.Array:
  """Pixels from 0 .. 255 to 0 .. 1, on the device."""
  return images.astype(jnp.float32) / 255


DATA = {'digits': digits, 'tfds': tfds, 'texts': texts}
"""Each gives the arguments of a scenario that are data."""

NEVER = 2**30
"""The start of a decay that lies beyond every step of a run."""

EFFECTIVE_RATE = functools.partial(
  metrics.effective_learning_rate, kind='sgd', mask=models.nap_mask
)
"""What records hold of rows with `normalize`; the chains are SGD's."""

STREAMS = {
  'split': streams.split,
  'permuted': streams.permuted,
  'rotated': streams.rotated,
  'dated_text': streams.dated_text,
}


def make_stream(config: Config, row: Config) -> streams.Stream:
  """One stream per seed, side by side; `joint` where the row asks for it."""
  load = pick(DATA, config['data'], 'data')
  kwargs = dict(config['stream'])
  make = pick(STREAMS, kwargs, 'stream')
  if (load is texts) != (make is streams.dated_text):
    raise ValueError(
      f'stream.name is {kwargs["name"]!r} and data.name is '
      f"{config['data']['name']!r}; 'dated_text' goes with 'texts' alone."
    )
  data = load(config['data'])
  order = kwargs.pop('order_seed', None)
  del kwargs['name']
  made = []
  for seed in config['seeds']:
    own = {} if order is None else {'order_seed': order + seed}
    stream = make(seed=seed, **data, **kwargs, **own)
    made.append(streams.joint(stream) if row.get('joint') else stream)
  return streams.replicate(made)


def make_model(config: Config, row: Config, stream: streams.Stream) -> Any:
  """`(init_fn, apply_fn)`."""
  normalize = row.get('normalize', False)
  inputs = stream.batch_spec['inputs']
  kwargs = {k: v for k, v in config['model'].items() if k != 'name'}
  make = pick(MODELS, config['model'], 'model')
  module = make(num_classes=stream.num_classes, normalize=normalize, **kwargs)
  return models.from_module(module, inputs)


def gpt(*, num_classes: int, **kwargs: Any) -> models.GPT:
  """The GPT, whose classes are tokens."""
  return models.GPT(vocab_size=num_classes, **kwargs)


MODELS = {'mlp': models.MLP, 'cnn': models.CNN, 'gpt': gpt}


def schedule_record(config: Config, row: Config) -> dict[str, Any]:
  """The schedule of a row, in its recordable form.

  `row['schedule']` overrides fields of `config['schedule']`: each contender
  may have the rate that is best for it.

  Raises:
    ValueError: if a phase is impossible, or the warm-up outlasts the run.
  """
  kwargs = {**config['schedule'], **row.get('schedule', {})}
  record = {'name': kwargs.pop('name'), 'kwargs': kwargs}
  schedules.build_schedule(record)
  steps = config['stream']['num_tasks'] * config['stream']['steps_per_task']
  if kwargs.get('warmup_steps', 0) >= steps:
    raise ValueError(
      f'schedule.warmup_steps is {kwargs["warmup_steps"]}, but the run has '
      f'only {steps} steps; shorten the warm-up or lengthen the run.'
    )
  return record


def decay_record(config: Config, trunk: Any, start: Any) -> dict[str, Any]:
  """The schedule of the decay branch that leaves `trunk` at `start`."""
  decay = config['decay']
  kwargs = {
    'schedule': trunk,
    'start_step': start,
    'decay_steps': decay['steps'],
    'end_value': decay['end_value'],
    'decay': decay['shape'],
  }
  return {'name': 'decay_branch', 'kwargs': kwargs}


@dataclasses.dataclass(frozen=True)
class Contender:
  """What a row of the table trains: everything built, nothing begun."""

  name: str
  stream: streams.Stream
  learner: training.Learner
  state: training.TrainState
  schedule: dict[str, Any]


def make_contender(name: str, config: Config) -> Contender:
  """Builds the row `name` of the configuration."""
  if name not in config['rows']:
    raise ValueError(
      f'there is no row {name!r}; rows has {", ".join(config["rows"])}.'
    )
  row = config['rows'][name]
  for field in ('evaluate_every', 'save_every'):  # 0: at ends of tasks only
    base.check_steps('config', field, config[field])
  stream = make_stream(config, row)
  init_fn, apply_fn = make_model(config, row, stream)
  wanted = list(row['methods'])
  unknown = set(wanted) - set(config['methods'])
  if unknown:
    raise ValueError(
      f'rows.{name}.methods names {sorted(unknown)}; methods has '
      f'{sorted(config["methods"])}.'
    )
  record = schedule_record(config, row)
  make_tx = functools.partial(
    make_chain, config, wanted, stream.batch_spec, record
  )
  options = {}
  if row.get('normalize'):
    options['effective_rate'] = EFFECTIVE_RATE
  if 'ewc' in wanted:
    options['on_task_end'] = consolidate(config['methods']['ewc'], apply_fn)
  learner = training.Learner(make_tx, apply_fn, **options)
  tx = make_tx(jnp.int32(NEVER))
  state = training.create_states(init_fn, tx, config['seeds'])
  return Contender(name, stream, learner, state, record)


def make_chain(
  config: Config,
  wanted: list[str],
  batch: Any,
  record: dict[str, Any],
  decay_start: jax.Array,
) -> optax.GradientTransformation:
  """The one chain of a row, in the order of the design.

  `decay_start` is an array: one compiled program then serves the main branch
  (where it lies beyond every step) and all the decay branches.
  """
  optimizer, options = config['optimizer'], config['methods']
  schedule = schedules.build_schedule(record)
  if config['decay']['steps']:
    record = decay_record(config, schedule, decay_start)
    schedule = schedules.decay_branch(**record['kwargs'])
  links = []
  if 'replay' in wanted:
    links.append(methods.add_memory_gradient(options['replay']['weight']))
  if 'ewc' in wanted:
    links.append(methods.add_ewc_penalty(options['ewc']['strength']))
  if optimizer['clip']:
    links.append(optax.clip_by_global_norm(optimizer['clip']))
  if optimizer.get('adam_b2'):
    links.append(optax.scale_by_adam(b2=optimizer['adam_b2']))
  if optimizer['momentum']:
    links.append(optax.trace(optimizer['momentum']))
  if optimizer['weight_decay']:
    links.append(optax.add_decayed_weights(optimizer['weight_decay']))
  links.append(methods.scale_by_schedule_value(schedule))
  if 'nap' in wanted:
    links.append(
      methods.normalize_and_project(mask=models.nap_mask, **options['nap'])
    )
  chain = optax.chain(*links)
  if 'replay' not in wanted:
    return chain
  replay = options['replay']
  return methods.with_memory(
    chain, replay['capacity'], batch, replay['batch_size']
  )


def consolidate(options: Config, apply_fn: Any) -> Callable[..., Any]:
  """EWC's end of a task: the Fisher diagonal of its data, then the merge."""

  def on_task_end(state, task_data, key):
    fisher = methods.fisher_diagonal(
      apply_fn,
      state.params,
      task_data,
      estimator=options['estimator'],
      key=key,
    )
    opt_state = methods.consolidate(
      state.opt_state, state.params, fisher=fisher, merge=options['merge']
    )
    return state._replace(opt_state=opt_state)

  return on_task_end


def pick(table: Mapping[str, Any], options: Config, field: str) -> Any:
  """The entry that `options['name']` names."""
  name = options['name']
  if name not in table:
    raise ValueError(
      f'{field}.name is {name!r}; it must be one of {", ".join(table)}.'
    )
  return table[name]
