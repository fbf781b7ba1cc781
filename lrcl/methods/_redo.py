"""ReDo: units that have gone silent start anew."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base
from lrcl.methods import _boundary, _units


class RedoState(NamedTuple):
  """State of `redo`.

  Attributes:
    count: int32 scalar, the updates so far.
    recycled: int32 scalar, the units recycled so far, over all layers.
    key: of the kernels to come.
    inner_state: the state of what is wrapped.
  """

  count: jax.Array
  recycled: jax.Array
  key: jax.Array
  inner_state: Any


def redo(
  inner: optax.GradientTransformation,
  graph: Sequence[base.UnitLayer],
  activations_fn: base.ActivationsFn,
  *,
  threshold: Any = 0.1,
  every: int = 1000,
  reset_count: bool = True,
  seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
  r"""Wraps an optimizer and recycles dormant units now and then (ReDo).

  At every `every`-th update unit i of a layer has the score
  :math:`\overline{|h_i|} / (\frac{1}{n} \sum_j \overline{|h_j|} + 10^{-9})`,
  with means over the rows of the batch at `params` and, in a convolution, over
  positions. Where it is at most `threshold`, the step ends at a unit that is
  new: incoming weights from the layer's initializer, bias 0, outgoing weights
  0, so that the network computes what it did without the unit. What the
  optimizer holds of these weights (every tree of its state with the shapes of
  the parameters: moments, a trace) becomes 0.

  Adam's step count is one number for all weights. With `reset_count` it
  becomes 0 when a unit is recycled, as in a port of the authors' code, whose
  writer found it to matter: new weights then have the bias correction of a
  first step, and all others smaller steps for a while. Without it, the first
  steps of new weights are up to :math:`(1-\beta_1)/\sqrt{1-\beta_2}` times as
  large as the rate (3.2 by Adam's defaults).

  Place in the chain: around preconditioner, decay and rate, in front of
  `normalize_and_project`. A penalty's anchor or another copy of parameters
  must stand outside: inside it would be set to 0 like a moment. Cost: at every
  `every`-th update one pass forward over the batch and some passes over the
  parameters; nothing at the others.

  Args:
    inner: the optimizer.
    graph: the hidden layers, see `lrcl.base.UnitLayer`;
      `lrcl.models.unit_graph` makes it for this library's networks. Output
      layers are not part of it and are never recycled.
    activations_fn: `activations_fn(params, batch)`: outputs after the
      nonlinearity by name, `[batch, ..., units]`;
      `lrcl.models.activations_from_module` makes it.
    threshold: of the score, at least 0; may be traced. 0 recycles units that
      are silent on the whole batch, which changes no output on it.
    every: updates from one look to the next.
    reset_count: whether Adam's step count starts anew, too.
    seed: of the new weights. For replicas put a key into each state.

  Returns:
    A transformation with the state `RedoState`. It needs `params`, the extra
    arg `batch`, and what `inner` needs. Updates keep their dtype. Rows count
    by `batch['weight']`, where there is one.

  Raises:
    TypeError: if the graph is none.
    ValueError: if a number is out of range, `params` is missing, or graph,
      parameters and activations do not fit.

  Example:
    >>> params = {'a': {'kernel': jnp.eye(2)}, 'b': {'kernel': jnp.eye(2)}}
    >>> hidden = lambda params, batch: {'h': batch @ params['a']['kernel']}
    >>> graph = [base.UnitLayer('a', 'h', ('b',))]
    >>> tx = redo(optax.sgd(0.0), graph, hidden, every=1)
    >>> zero = jax.tree.map(jnp.zeros_like, params)
    >>> batch = jnp.array([[2.0, 0.0]])  # the second unit is silent
    >>> updates, state = tx.update(zero, tx.init(params), params, batch=batch)
    >>> print(params['b']['kernel'] + updates['b']['kernel'])
    [[1. 0.]
     [0. 0.]]
    >>> int(state.recycled)
    1

  References:
    Sokar et al., `The dormant neuron phenomenon in deep reinforcement
    learning <https://arxiv.org/abs/2302.12902>`_, 2023. Defaults of the
    paper from memory, as of a port; the authors' code has a threshold of 0.
    The scaling of new weights to the norm of live ones is left out.
  """
  where = 'redo'
  graph = _units.check_graph(where, graph)
  base.check_value(where, 'threshold', threshold, minimum=0)
  every = base.check_steps(where, 'every', every, minimum=1)
  inner = optax.with_extra_args_support(inner)

  def init_fn(params: base.Params) -> RedoState:
    _units.count_units(where, graph, params)
    count, recycled = (jnp.zeros([], jnp.int32) for _ in range(2))
    return RedoState(count, recycled, jax.random.key(seed), inner.init(params))

  def look(carry, params, batch):
    (updates, state), limit = carry, jnp.asarray(threshold, jnp.float32)
    outputs, weight = _units.measure(
      where, graph, activations_fn, params, batch
    )
    sizes = [base.unit_means(jnp.abs(h), weight) for h in outputs]
    masks = tuple(base.unit_scores(size) <= limit for size in sizes)
    found = jnp.sum(jnp.concatenate(masks), dtype=jnp.int32)
    key, new_key = jax.random.split(state.key)
    updates, inner_state = _units.recycle(
      inner, graph, masks, new_key, (updates, state.inner_state), params
    )
    if reset_count:
      inner_state = _units.reset_counts(inner_state, found > 0)
    recycled = state.recycled + found
    return updates, RedoState(state.count, recycled, key, inner_state)

  def batch_update(updates, state, params=None, *, batch, **extra_args):
    if params is None:
      raise ValueError(
        f'{where}: params is None; call update(updates, state, params).'
      )
    updates, inner_state = inner.update(
      updates, state.inner_state, params, batch=batch, **extra_args
    )
    count = jnp.asarray(optax.safe_increment(state.count))
    state = state._replace(count=count, inner_state=inner_state)
    due = count % every == 0
    return _boundary.run_if(due, look, (updates, state), params, batch)

  update_fn: Any = batch_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)
