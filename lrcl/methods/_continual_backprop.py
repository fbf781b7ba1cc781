"""Continual backpropagation: the least useful units start anew, steadily."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _boundary, _units


class UnitStatistics(NamedTuple):
  """What `continual_backprop` keeps of the units of one layer.

  Attributes:
    utility: float32 `[units]`, the running average from 0, not corrected.
    mean: float32 `[units]`, that of the activation.
    age: int32 `[units]`, updates since the unit was new.
    due: float32 scalar, the part of a unit that is still to be replaced.
  """

  utility: jax.Array
  mean: jax.Array
  age: jax.Array
  due: jax.Array


class ContinualBackpropState(NamedTuple):
  """State of `continual_backprop`.

  Attributes:
    layers: the `UnitStatistics` of each layer, in the order of the graph.
    recycled: int32 scalar, the units replaced so far, over all layers.
    key: of the kernels to come.
    inner_state: the state of what is wrapped.
  """

  layers: tuple[UnitStatistics, ...]
  recycled: jax.Array
  key: jax.Array
  inner_state: Any


def continual_backprop(
  inner: optax.GradientTransformation,
  graph: Sequence[base.UnitLayer],
  activations_fn: base.ActivationsFn,
  *,
  replacement_rate: Any = 1e-4,
  maturity: int = 100,
  decay: Any = 0.99,
  correct_bias: bool = True,
  seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
  r"""Wraps an optimizer and replaces the least useful units at a low rate.

  At every update unit i of a layer contributes
  :math:`\overline{|h_i|} \cdot \overline{|w_{ik}|}`: its mean absolute
  activation on the batch times the mean absolute weight by which it is read.
  The utility is the average of that with `decay`, divided by
  :math:`1 - \eta^{a}` for a unit of age a. Of the e units of a layer that are
  older than `maturity`, :math:`\rho e` are replaced per update, those of least
  utility; fractions add up until there is a whole one. A new unit has weights
  from the layer's initializer, bias 0, outgoing weights 0, age and utility 0,
  and no moments in the optimizer (as in `redo`; Adam's step count, which is
  one for all weights, stays, so the first steps of new weights are up to 3.2
  times as large as the rate).

  A unit that is taken away takes its mean output along.
  `correct_bias` gives that to the biases of its readers,
  :math:`b \leftarrow b + w_{i} \bar h_i` with the average activation
  corrected for age, so that the mean input of the next layer does not jump.
  The published code means to do so but sets the average to 0 before it is
  used, so that its correction is always 0: `correct_bias=False` does as that
  code does. Readers without a bias get none; behind pooling, padding or
  dropout, the mean is that of the unit itself and the correction approximate.

  Place in the chain: around preconditioner, decay and rate, in front of
  `normalize_and_project`; anchors stay outside, see `redo`. Cost: one pass
  forward over the batch at every update, at the parameters of the loss: where
  both are compiled together, XLA finds most of it done already. Replacing
  costs some passes over the parameters, where a unit is due.

  Args:
    inner: the optimizer.
    graph: the hidden layers, see `lrcl.base.UnitLayer` and
      `lrcl.models.unit_graph`. Output layers are never replaced.
    activations_fn: `activations_fn(params, batch)`: outputs after the
      nonlinearity by name, see `lrcl.models.activations_from_module`.
    replacement_rate: rho, in [0, 1]; may be traced.
    maturity: updates for which a new unit is safe.
    decay: eta, in [0, 1); may be traced.
    correct_bias: whether readers get the mean output of what is replaced.
    seed: of the new weights. For replicas put a key into each state.

  Returns:
    A transformation with the state `ContinualBackpropState`. It needs
    `params`, the extra arg `batch`, and what `inner` needs. Updates keep their
    dtype. Rows count by `batch['weight']`, where there is one.

  Raises:
    TypeError: if the graph is none.
    ValueError: if a number is out of range, `params` is missing, or graph,
      parameters and activations do not fit.

  Example:
    >>> params = {'a': {'kernel': jnp.eye(2)}, 'b': {'kernel': jnp.eye(2)}}
    >>> hidden = lambda params, batch: {'h': batch @ params['a']['kernel']}
    >>> graph = [base.UnitLayer('a', 'h', ('b',))]
    >>> tx = continual_backprop(
    ...   optax.sgd(0.0), graph, hidden, replacement_rate=0.5, maturity=0
    ... )
    >>> zero = jax.tree.map(jnp.zeros_like, params)
    >>> batch = jnp.array([[2.0, 1.0]])  # the second unit contributes less
    >>> updates, state = tx.update(zero, tx.init(params), params, batch=batch)
    >>> print(params['b']['kernel'] + updates['b']['kernel'])
    [[1. 0.]
     [0. 0.]]

  References:
    Dohare, Sutton and Mahmood, `Continual backprop: stochastic gradient
    descent with persistent randomness <https://arxiv.org/abs/2108.06325>`_,
    2021

    Dohare et al., `Loss of plasticity in deep continual learning
    <https://doi.org/10.1038/s41586-024-07711-7>`_, 2024 (whose formula sums
    over readers where the code, followed here, takes the mean)
  """
  where = 'continual_backprop'
  graph = _units.check_graph(where, graph)
  base.check_value(
    where, 'replacement_rate', replacement_rate, minimum=0, maximum=1
  )
  maturity = base.check_steps(where, 'maturity', maturity)
  base.check_value(where, 'decay', decay, minimum=0, maximum=1 - 1e-6)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> ContinualBackpropState:
    counts = _units.count_units(where, graph, params)
    layers = tuple(_new_statistics(count) for count in counts)
    key, recycled = jax.random.key(seed), jnp.zeros([], jnp.int32)
    return ContinualBackpropState(layers, recycled, key, inner.init(params))

  def replace(carry, params, masks, means):
    updates, inner_state, key = carry
    key, new_key = jax.random.split(key)
    shift = lambda named: _give_means(graph, masks, means, named)
    updates, inner_state = _units.recycle(
      inner,
      graph,
      masks,
      new_key,
      (updates, inner_state),
      params,
      *([shift] if correct_bias else []),
    )
    return updates, inner_state, key

  def batch_update(updates, state, params=None, *, batch, **extra_args):
    if params is None:
      raise ValueError(
        f'{where}: params is None; call update(updates, state, params).'
      )
    updates, inner_state = inner.update(
      updates, state.inner_state, params, batch=batch, **extra_args
    )
    outputs, weight = _units.measure(
      where, graph, activations_fn, params, batch
    )
    named, _ = _units.by_name(params)
    layers = [
      _observe(layer, old, h, weight, named, decay)
      for layer, old, h in zip(graph, state.layers, outputs, strict=True)
    ]
    means = tuple(s.mean / _correction(s.age, decay) for s in layers)
    chosen = [_choose(s, replacement_rate, maturity, decay) for s in layers]
    masks, layers = zip(*chosen, strict=True)
    found = jnp.sum(jnp.concatenate(masks), dtype=jnp.int32)
    updates, inner_state, key = _boundary.run_if(
      found > 0,
      replace,
      (updates, inner_state, state.key),
      params,
      masks,
      means,
    )
    recycled = state.recycled + found
    return updates, ContinualBackpropState(layers, recycled, key, inner_state)

  update_fn: Any = batch_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _new_statistics(units: int) -> UnitStatistics:
  utility, mean = (jnp.zeros(units, jnp.float32) for _ in range(2))
  age, due = jnp.zeros(units, jnp.int32), jnp.zeros([], jnp.float32)
  return UnitStatistics(utility, mean, age, due)


def _observe(
  layer: base.UnitLayer,
  old: UnitStatistics,
  outputs: jax.Array,
  weight: jax.Array | None,
  named: dict[str, jax.Array],
  decay: Any,
) -> UnitStatistics:
  """The statistics with one more batch in the averages."""
  units, decay = outputs.shape[-1], jnp.asarray(decay, jnp.float32)
  average = lambda old, new: decay * old + (1 - decay) * new
  read = sum(
    jnp.mean(
      jnp.abs(_units.reader_rows(named[f'{reader}/kernel'], units)), (0, 2)
    )
    for reader in layer.readers
  )
  contribution = base.unit_means(jnp.abs(outputs), weight) * read
  return old._replace(
    utility=average(old.utility, contribution),
    mean=average(old.mean, base.unit_means(outputs, weight)),
    age=optax.safe_increment(old.age),
  )


def _choose(
  old: UnitStatistics, rate: Any, maturity: int, decay: Any
) -> tuple[jax.Array, UnitStatistics]:
  """Which units are replaced, and the statistics in which they are new."""
  mature = old.age > maturity
  some = jnp.sum(mature, dtype=jnp.float32)
  due = old.due + jnp.asarray(rate, jnp.float32) * some
  count = jnp.floor(due)

  def least() -> jax.Array:
    # Behind a `cond`: the two sorts cost more than all statistics of a step.
    utility = old.utility / _correction(old.age, decay)
    order = jnp.argsort(jnp.where(mature, utility, jnp.inf))
    rank = jnp.argsort(order).astype(jnp.float32)
    return mature & (rank < count)

  mask = jax.lax.cond(count > 0, least, lambda: jnp.zeros_like(mature))
  clear = lambda x: jnp.where(mask, jnp.zeros_like(x), x)
  new = UnitStatistics(
    clear(old.utility), clear(old.mean), clear(old.age), due - count
  )
  return mask, new


def _correction(age: jax.Array, decay: Any) -> jax.Array:
  """What an average that began at 0 is divided by; 1 for a new unit."""
  decay = jnp.asarray(decay, jnp.float32)
  return jnp.where(age > 0, 1 - decay ** age.astype(jnp.float32), 1.0)


def _give_means(
  graph: _units.Graph,
  masks: _units.Masks,
  means: tuple[jax.Array, ...],
  named: dict[str, jax.Array],
) -> dict[str, jax.Array]:
  """Readers' biases that make up for the mean output of what goes."""
  named = dict(named)
  for layer, mask, mean in zip(graph, masks, means, strict=True):
    gone = jnp.where(mask, mean, 0.0)
    for reader in layer.readers:
      bias = f'{reader}/bias'
      if bias in named:
        rows = _units.reader_rows(named[f'{reader}/kernel'], len(mask))
        named[bias] = named[bias] + gone @ jnp.sum(rows, 0)
  return named
