"""UER against replay, and against replay that has cosines only.

  python -m experiments.papers.uer --data_dir=DIR

takes about 5 minutes of CPU time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from experiments.papers import claims, replay_cells
from experiments.papers.replay_cells import BATCH, Cell
from lrcl import base, losses, methods, models, protocols, training

CLAIM = claims.Claim(
  name='uer',
  title='UER: angles for new rows, products for replayed ones',
  paper='Lin et al., 2023, UER: A Heuristic Bias Addressing Approach for '
  'Online Continual Learning, https://arxiv.org/abs/2309.04081',
  says='The bias of replay lies in the angles of a linear head and not in its '
  'norms; training current rows on cosines and replayed ones on products is '
  'better than experience replay and its variants on three data sets '
  '(abstract; the form and its scale are not confirmed against the paper).',
)

SCALE = 10.0
CELLS = (
  Cell('digits', 5, 100),
  Cell('digits', 5, 50),
  Cell('digits', 1, 100),
  Cell('mnist', 1, 100),
  Cell('mnist', 1, 50),
  Cell('fashion_mnist', 1, 100),
  Cell('fashion_mnist', 1, 50),
)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class _Scale(NamedTuple):
  cells: Sequence[Cell]
  seeds: Sequence[int]
  rates: Sequence[float]


_SCALES = {
  'smoke': _Scale((Cell('digits', 1, 50),), range(3), RATES[2:4]),
  'default': _Scale(CELLS, range(10), RATES),
  'full': _Scale(CELLS, range(20), RATES),
}


class Contender(NamedTuple):
  """A loss on products and cosines, and the prediction that goes with it."""

  loss_fn: base.LossFn
  predict: Callable[[jax.Array, base.Batch], jax.Array]


def _of(part: int, scale: float) -> Contender:
  """Replay with the products (0) or the cosines (1) of the head alone."""
  return Contender(
    lambda outputs, batch: losses.cross_entropy(
      outputs[:, part] * scale, batch
    ),
    lambda outputs, batch: losses.argmax(outputs[:, part], batch),
  )


CONTENDERS = {
  'ER': _of(0, 1.0),
  'ER, cosines only': _of(1, SCALE),
  'UER': Contender(losses.uer(SCALE), losses.uer_argmax),
}


class Network(nn.Module):
  """A perceptron whose head gives products and cosines."""

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps `[batch, ...]` to `[batch, 2, classes]`."""
    features = inputs.reshape(inputs.shape[0], -1)
    for width in replay_cells.FEATURES:
      features = nn.relu(nn.Dense(width)(features))
    return models.CosineDotHead(num_classes=10, name='head')(features)


def run_contender(
  data: replay_cells.Data, cell: Cell, contender: Contender, scale: _Scale
) -> tuple[protocols.Tuned, Any]:
  """Tunes one contender in one cell; its final accuracies `[seeds]`."""
  every = [*replay_cells.TUNING_SEEDS, *scale.seeds]
  stream = data.stream(every)
  spec = stream.batch_spec
  init_fn, apply_fn = models.from_module(Network(), spec['inputs'])
  mark = lambda memory: {**memory, 'from_memory': jnp.ones(BATCH, bool)}

  def make_learner(setting: protocols.Setting) -> training.Learner:
    chain = optax.chain(
      methods.map_memory(methods.add_memory_gradient(), mark),
      methods.scale_by_schedule_value(setting['rate']),
    )
    tx = methods.with_memory(chain, cell.capacity, spec, BATCH)
    return training.Learner(
      tx, apply_fn, loss_fn=contender.loss_fn, predict=contender.predict
    )

  trials = protocols.Trials(stream, every, init_fn, make_learner)
  tuned, found = trials.tune(
    {'rate': scale.rates},
    tuning_seeds=replay_cells.TUNING_SEEDS,
    seeds=scale.seeds,
  )
  return tuned, found.final


def run(size: claims.Size, data_dir: str | None) -> claims.Outcome:
  """Measures every cell.

  The claim has a part for each cell: UER is above ER by more than chance, seed
  by seed. The control tells whether its norms are worth more than leaving all
  norms out, and is printed; it is no part of the claim.
  """
  scale = _SCALES[size]
  table, parts, gains, references = [], {}, [], {}
  for cell in scale.cells:
    data = replay_cells.load(cell, data_dir)
    found = {
      name: run_contender(data, cell, contender, scale)
      for name, contender in CONTENDERS.items()
    }
    key = (cell.name, cell.passes)
    if key not in references:
      references[key] = data.references(scale.rates, scale.seeds)
    accuracy = {name: final for name, (_, final) in found.items()}
    parts[cell.label] = claims.is_below(accuracy['ER'], accuracy['UER'])
    gains.append(_gains(cell.label, accuracy))
    table += [
      replay_cells.line(cell.label, n, final, protocols.format_setting(tuned))
      for n, (tuned, final) in found.items()
    ] + replay_cells.reference_lines(cell.label, references[key])
  return claims.Outcome(
    verdict=claims.decide(list(parts.values())),
    measured=f'UER is above ER by more than chance: '
    f'{claims.format_parts(parts)}. Accuracy of UER minus that of ER, and of '
    f'replay with cosines only: {"; ".join(gains)}.',
    table=table,
    setting=replay_cells.describe(scale.seeds, scale.rates)
    + f'Heads without bias, a reservoir, scale {SCALE:g} of the cosines in UER '
    'and in the control, which trains and predicts by cosines throughout. The '
    'rows of reference have a head with a bias.',
  )


def _gains(label: str, accuracy: Mapping[str, Any]) -> str:
  """How far UER is from its rivals, in words."""
  over = lambda name: claims.format_interval(accuracy['UER'] - accuracy[name])
  return f'{label}: {over("ER")} and {over("ER, cosines only")}'


if __name__ == '__main__':
  claims.main(CLAIM, run, takes_data=True)
