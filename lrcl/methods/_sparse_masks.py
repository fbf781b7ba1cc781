"""Which entries of an array are in use: at first, and as some are exchanged."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from lrcl import base, tree
from lrcl.methods import _quadratic

Density = Literal['erk', 'uniform']
Drop = Literal['magnitude', 'signed', 'taylor']
Grow = Literal['gradient', 'momentum', 'random', 'unfired']


def sparse_densities(
  params: base.Params,
  density: float,
  *,
  kind: Density = 'erk',
  mask: Any = None,
) -> Any:
  r"""The share of entries that each leaf keeps in a sparse network.

  `'uniform'` gives every leaf `density`. `'erk'` (Erdos-Renyi kernel) gives a
  leaf :math:`\epsilon \sum_i n_i / \prod_i n_i` with :math:`n_i` its axes and
  one :math:`\epsilon` for all, so that small layers are denser, and solves for
  the :math:`\epsilon` at which the whole has `density`. A leaf whose share
  would exceed 1 is dense, and the rest is solved again.

  Args:
    params: the parameters, or their shapes.
    density: share of all entries of the leaves that are sparse, above 0 and
      at most 1.
    kind: `'erk'` or `'uniform'`.
    mask: which leaves are sparse: None for every leaf with two axes or more, a
      tree of bools, or a function such as `lrcl.tree.path_mask('kernel$')`.

  Returns:
    A tree of floats; `optax.MaskedNode` for the other leaves.

  Raises:
    ValueError: if `density` is out of range, `kind` is unknown, or the mask
      selects nothing.

  Example:
    >>> params = {'a': jnp.ones((8, 8)), 'b': jnp.ones((8, 1))}
    >>> shares = sparse_densities(params, 0.25)  # epsilon is 0.72
    >>> jax.tree.map(lambda share: round(share, 2), shares)
    {'a': 0.18, 'b': 0.81}

  References:
    Evci et al., `Rigging the lottery: making all tickets winners
    <https://arxiv.org/abs/1911.11134>`_, 2020
  """
  where = 'sparse_densities'
  base.check_value(where, 'density', density, above=0, maximum=1)
  if kind not in ('erk', 'uniform'):
    raise ValueError(
      f"{where}: kind is {kind!r}; it must be 'erk' or 'uniform'."
    )
  chosen = select(params, mask, where)
  leaves, treedef = jax.tree.flatten(chosen)
  if kind == 'uniform':
    return treedef.unflatten([float(density)] * len(leaves))
  return treedef.unflatten(_solve([tuple(x.shape) for x in leaves], density))


def select(params: base.Params, mask: Any, where: str) -> base.Params:
  """The leaves that are sparse, with all others taken out."""
  if mask is None:
    mask = lambda params: jax.tree.map(lambda p: len(p.shape) >= 2, params)
  return tree.mask_out(params, tree.resolve_mask(mask, params, where))


def _solve(shapes: list[tuple[int, ...]], density: float) -> list[float]:
  """Shares in proportion to `sum(shape) / prod(shape)`, none above 1."""
  sizes = [_product(shape) for shape in shapes]
  dense: set[int] = set()
  while True:
    sparse = [i for i in range(len(shapes)) if i not in dense]
    room = density * sum(sizes) - sum(sizes[i] for i in dense)
    epsilon = room / max(sum(sum(shapes[i]) for i in sparse), 1)
    share = lambda i, e=epsilon: e * sum(shapes[i]) / sizes[i]
    full = {i for i in sparse if share(i) > 1}
    if not full:
      return [1.0 if i in dense else share(i) for i in range(len(shapes))]
    dense |= full


def _product(shape: tuple[int, ...]) -> int:
  size = 1
  for n in shape:
    size *= n
  return size


def random_mask(key: jax.Array, shape: tuple[int, ...], count: int) -> Any:
  """Exactly `count` entries, each with one probability."""
  return _lowest(jax.random.uniform(key, shape), count)


class Exchange(NamedTuple):
  """How entries are exchanged.

  Attributes:
    drop: the criterion by which entries leave.
    grow: the criterion by which as many others come in.
  """

  drop: Drop
  grow: Grow

  def __call__(
    self,
    mask: jax.Array,
    values: jax.Array,
    gradient: jax.Array,
    fired: Any,
    rate: jax.Array,
    key: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Exchanges a share of a leaf's entries; their number stays.

    Args:
      mask: bool, the entries in use.
      values: of the leaf.
      gradient: of all entries, or its moving average.
      fired: bool, the entries that were ever in use; read by `'unfired'`.
      rate: the share of the entries in use that leaves, in [0, 1].
      key: for `'random'` and `'unfired'`.

    Returns:
      `(mask, kept)`: the entries in use from now on, and those of before that
      did not leave. An entry that left may come in again.
    """
    gone = _DROPS[self.drop](mask, values, gradient, rate)
    kept = mask & ~gone
    score = _GROWS[self.grow](gradient, fired, key)
    count = jnp.sum(gone, dtype=jnp.int32)
    grown = _lowest(jnp.where(kept, jnp.inf, -score), count) & ~kept
    return kept | grown, kept


def _lowest(score: jax.Array, count: Any) -> jax.Array:
  """The `count` entries of the least score; of equal ones the first.

  Found bit by bit, from the highest on, by counting who lies below: 32 passes,
  where to sort takes a hundred times as long. Not by the threshold alone: equal
  scores must not change the number.
  """
  keys = _ordered_bits(score.astype(jnp.float32))
  count = jnp.asarray(count, jnp.int32)

  def settle(i: jax.Array, bound: jax.Array) -> jax.Array:
    higher = bound | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
    lower = jnp.sum(keys < higher, axis=0, dtype=jnp.int32)
    # Two sums held apart, since a CPU makes of them twice as fast a loop.
    lower = jnp.sum(jax.lax.optimization_barrier(lower))
    return jnp.where(lower < count, higher, bound)

  # The key of the last entry that is wanted: fewer than `count` lie below it.
  bound = jax.lax.fori_loop(0, 32, settle, jnp.uint32(0))
  below, equal = keys < bound, keys == bound
  room = count - jnp.sum(below, dtype=jnp.int32)
  some = jnp.sum(equal, dtype=jnp.int32)

  def first() -> jax.Array:
    order = jnp.cumsum(equal.reshape(-1), dtype=jnp.int32)
    return equal & (order.reshape(equal.shape) <= room)

  ties = jax.lax.cond(some <= room, lambda: equal, first)
  return (below | ties) & (count > 0)


def _ordered_bits(values: jax.Array) -> jax.Array:
  """Numbers of 32 bits that are ordered as the floats are; NaN comes last."""
  values = jnp.where(jnp.isnan(values), jnp.inf, values) + 0.0  # no -0
  bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
  negative = (bits >> 31) == 1
  return jnp.where(negative, ~bits, bits | jnp.uint32(1 << 31))


def _drop_lowest(
  group: jax.Array, score: jax.Array, rate: jax.Array
) -> jax.Array:
  """The share `rate` of the entries in `group` with the least score."""
  size = jnp.sum(group, dtype=jnp.int32).astype(jnp.float32)
  count = jnp.floor(rate * size).astype(jnp.int32)
  return _lowest(jnp.where(group, score, jnp.inf), count) & group


def _by_magnitude(mask, values, gradient, rate):
  del gradient
  return _drop_lowest(mask, jnp.abs(_quadratic.wide(values)), rate)


def _by_sign(mask, values, gradient, rate):
  """Of the positive and of the negative entries each the share near 0."""
  size = jnp.abs(_quadratic.wide(values))
  positive = mask & (values >= 0)
  negative = mask & ~(values >= 0)
  gone = _drop_lowest(positive, size, rate)
  return gone | _drop_lowest(negative, size, rate)


def _by_taylor(mask, values, gradient, rate):
  score = jnp.square(_quadratic.wide(values) * _quadratic.wide(gradient))
  return _drop_lowest(mask, score, rate)


def _grow_steep(gradient, fired, key):
  del fired, key
  return jnp.abs(_quadratic.wide(gradient))


def _grow_random(gradient, fired, key):
  del fired
  return jax.random.uniform(key, gradient.shape)


def _grow_unfired(gradient, fired, key):
  fresh = jnp.where(fired, 0.0, 1.0)
  return fresh + jax.random.uniform(key, gradient.shape)


_DROPS: dict[str, Callable[..., jax.Array]] = {
  'magnitude': _by_magnitude,
  'signed': _by_sign,
  'taylor': _by_taylor,
}
_GROWS: dict[str, Callable[..., jax.Array]] = {
  'gradient': _grow_steep,
  'momentum': _grow_steep,
  'random': _grow_random,
  'unfired': _grow_unfired,
}
