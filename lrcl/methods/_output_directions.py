"""Which way the parameters move the outputs, example by example."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from lrcl import base, tree
from lrcl.methods import _quadratic

_WHERE = 'output_directions'


def output_directions(
  apply_fn: base.ApplyFn,
  params: base.Params,
  batch: base.Batch,
  *,
  outputs: Literal['label', 'all'] = 'label',
  mask: Any = None,
  model_state: Any = None,
) -> base.Params:
  r"""Gradients of logits, one for each example, for `orthogonal_gradient`.

  For an example :math:`x` of class :math:`y` it is
  :math:`\nabla_\theta f_y(x)`, with :math:`f` the logits (`'label'`, in the
  paper OGD-GTL, which it recommends with 200 examples a task), or those of all
  logits (`'all'`). Gradients of the loss would not do: where a task is well
  fitted they are all but 0. Call it at the end of a task, on rows of it:

      directions = output_directions(apply_fn, params, rows)
      opt_state = consolidate(opt_state, params, directions=directions)

  Cost: a copy of the parameters for each direction, while they are in use.

  Args:
    apply_fn: the model, see `lrcl.base.ApplyFn`; it is called with one row at a
      time and `train=False`.
    params: its parameters.
    batch: `inputs`, for `'label'` `labels[batch]`, and optionally `weight`.
    outputs: of which logits.
    mask: which leaves are wanted: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`.
    model_state: what `apply_fn` needs besides parameters.

  Returns:
    A tree like `params` with a leading axis: `batch`, or `batch * classes` for
    `'all'`; float32; `optax.MaskedNode` for leaves that are not wanted. Rows of
    weight 0 give zeros, which `consolidate` leaves out.

  Raises:
    ValueError: if `outputs` is unknown, the mask selects nothing, or the logits
      are not `[batch, classes]`.

  Example:
    >>> apply_fn = lambda params, inputs, **_: (inputs @ params, ())
    >>> batch = {'inputs': jnp.array([[1.0, 2.0]]), 'labels': jnp.array([1])}
    >>> print(output_directions(apply_fn, jnp.zeros((2, 2)), batch))
    [[[0. 1.]
      [0. 2.]]]

  References:
    Farajtabar et al., `Orthogonal gradient descent for continual learning
    <https://arxiv.org/abs/1910.07104>`_, 2020
  """
  if outputs not in ('label', 'all'):
    raise ValueError(
      f"{_WHERE}: outputs is {outputs!r}; it must be 'label' or 'all'."
    )
  keep = tree.resolve_mask(mask, params, _WHERE)
  state = {} if model_state is None else model_state

  def logits_of(params: base.Params, row: base.Batch) -> jax.Array:
    inputs = jax.tree.map(lambda x: x[None], row['inputs'])
    logits, _ = apply_fn(
      params, inputs, rng=None, model_state=state, train=False
    )
    if logits.ndim != 2:
      raise ValueError(
        f'{_WHERE}: logits have rank {logits.ndim}; they must be '
        '[batch, classes].'
      )
    logits = logits[0].astype(jnp.float32)
    return logits if outputs == 'all' else logits[row['labels']][None]

  def one(row: base.Batch) -> base.Params:
    weight = row.get('weight', jnp.ones([], jnp.float32))
    gradients = jax.jacrev(logits_of)(params, row)
    wanted = lambda g: jnp.where(weight > 0, _quadratic.wide(g), 0.0)
    return jax.tree.map(wanted, tree.mask_out(gradients, keep))

  stacks = jax.vmap(one)(dict(batch))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacks)
