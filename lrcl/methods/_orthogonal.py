"""Steps at right angles to what past tasks depend on."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _hypergradient, _quadratic, _stacked

_WHERE = 'orthogonal_gradient'

# Of a direction of length 1, what float32 can tell from rounding.
_LEAST_NEW = 1e-3


class OrthogonalState(NamedTuple):
  """State of `orthogonal_gradient`.

  Attributes:
    basis: a float32 tree like the parameters with a leading axis `capacity`:
      orthonormal directions, then zeros; `optax.MaskedNode` for leaves that are
      masked out.
    count: int32 scalar, how many directions there are.
  """

  basis: base.Params
  count: jax.Array

  def consolidate(
    self, params: base.Params, *, directions: base.Params, **kwargs: Any
  ) -> 'OrthogonalState':
    """Takes in directions, one after another, until the basis is full.

    Args:
      params: unused.
      directions: a tree like the parameters with a leading axis, such as
        `output_directions` makes. Their lengths do not matter. One that the
        basis holds already, to a thousandth, is left out, and so is one that
        is 0 or not finite.
      **kwargs: what other states need.
    """
    del params, kwargs
    directions = tree.mask_like(directions, self.basis)
    jax.tree_util.tree_map_with_path(_check_leaf, self.basis, directions)
    add = lambda state, direction: (_add(state, direction), None)
    return jax.lax.scan(add, self, directions)[0]


def orthogonal_gradient(
  capacity: int, *, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Removes from updates what lies in the directions of past tasks (OGD).

  With an orthonormal basis :math:`v_1, v_2, \ldots` of directions that past
  tasks depend on, an update becomes
  :math:`u - \sum_i \langle u, v_i \rangle v_i`. If the directions are gradients
  of the model's outputs on examples of a past task, a small step leaves these
  outputs as they are; a linear model's stay the same however far it goes.

  Directions come in at a task's end, by `consolidate(opt_state, params,
  directions=...)`, with what `output_directions` finds on some rows of that
  task, and a Gram-Schmidt process makes them orthonormal. The basis has a fixed
  size: once `capacity` directions are in it, all others are dropped, so
  `capacity` divided by the number of tasks is what a task may take. Until the
  first call updates pass unchanged.

  Place in the chain: after everything that bends the step, behind the rate; in
  front of Adam or of clipping it is another method. It is linear, so the sign
  of updates does not matter. Cost: `capacity` float32 copies of the parameters
  in the state, and two passes over them a step. `consolidate` takes as many
  passes again for every direction; a state that is a stack of seeds needs
  `vmap` around it.

  Args:
    capacity: how many directions the basis holds.
    mask: which leaves are projected: None for all, a tree of bools, or a
      function such as `lrcl.tree.path_mask('kernel$')`. The others pass and
      cost nothing.

  Returns:
    A transformation with the state `OrthogonalState`. Updates keep their dtype;
    products are in float32.

  Raises:
    ValueError: if `capacity` is less than 1, the mask selects nothing, or
      `directions` do not look like the parameters.

  Example:
    >>> tx = orthogonal_gradient(2)
    >>> params = jnp.zeros(3)
    >>> state = tx.init(params)
    >>> directions = jnp.array([[3.0, 4.0, 0.0], [6.0, 8.0, 0.0]])
    >>> state = state.consolidate(params, directions=directions)
    >>> updates, state = tx.update(jnp.array([4.0, -3.0, 1.0]), state)
    >>> print(state.count, updates)
    1 [ 4. -3.  1.]
    >>> updates, state = tx.update(jnp.array([3.0, 4.0, 1.0]), state)
    >>> print(jnp.abs(updates.round(5)))
    [0. 0. 1.]

  References:
    Farajtabar et al., `Orthogonal gradient descent for continual learning
    <https://arxiv.org/abs/1910.07104>`_, 2020
  """
  capacity = base.check_steps(_WHERE, 'capacity', capacity, 1)

  def init_fn(params: base.Params) -> OrthogonalState:
    selected = _quadratic.select(params, mask, _WHERE)
    empty = lambda p: jnp.zeros((capacity, *p.shape), jnp.float32)
    basis = jax.tree.map(empty, selected)
    return OrthogonalState(basis, jnp.zeros([], jnp.int32))

  def update_fn(updates, state, params=None, **extra_args):
    del params, extra_args
    part = _span_part(state.basis, tree.mask_like(updates, state.basis))

    def leaf(within, update):
      if tree.is_masked(within):
        return update
      return (_quadratic.wide(update) - within).astype(update.dtype)

    rest = jax.tree.map(leaf, part, updates, is_leaf=tree.is_masked)
    return rest, state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _span_part(basis: Any, vector: Any) -> Any:
  """The part of a tree that lies in the span of the basis."""
  return _stacked.combine(_stacked.coefficients(basis, vector), basis)


def _add(state: OrthogonalState, direction: Any) -> OrthogonalState:
  """Takes in one direction, if it is new and there is room."""
  rest, _ = _unit(direction)
  # Twice: what rounding leaves of the span is made orthogonal once more.
  rest, new = _unit(_subtract(rest, _span_part(state.basis, rest)))
  rest, _ = _unit(_subtract(rest, _span_part(state.basis, rest)))
  capacity = jax.tree.leaves(state.basis)[0].shape[0]
  taken = (new > _LEAST_NEW) & (state.count < capacity)
  slot = jnp.where(taken, state.count, capacity)
  put = lambda b, x: b.at[slot].set(x, mode='drop')
  basis = jax.tree.map(put, state.basis, rest)
  return OrthogonalState(basis, state.count + taken.astype(jnp.int32))


def _unit(vector: Any) -> tuple[Any, jax.Array]:
  """The tree at length 1, or 0, in float32; and its length."""
  length = jnp.sqrt(_hypergradient.inner_product(vector, vector))
  factor = jnp.where(length > 0, 1.0 / jnp.where(length > 0, length, 1.0), 0.0)
  return jax.tree.map(lambda x: _quadratic.wide(x) * factor, vector), length


def _subtract(a: Any, b: Any) -> Any:
  return jax.tree.map(jnp.subtract, a, b)


def _check_leaf(path: Any, kept: jax.Array, directions: Any) -> None:
  if jnp.shape(directions)[1:] != kept.shape[1:] or not jnp.ndim(directions):
    shape = ', '.join(map(str, ('n', *kept.shape[1:])))
    raise ValueError(
      f'{_WHERE}: directions of {tree.leaf_name(path)!r} have the shape '
      f'{list(jnp.shape(directions))}; it must be [{shape}].'
    )
