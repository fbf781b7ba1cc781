"""Online prototypes in equilibrium: classes told apart by their means."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrcl import base
from lrcl.base import Batch, LossFn
from lrcl.losses._classification import cross_entropy


def equilibrate_prototypes(
  loss_fn: LossFn = cross_entropy,
  weight: float | jax.Array = 1.0,
  temperature: float | jax.Array = 0.5,
) -> Callable[..., jax.Array]:
  r"""Adds the contrast between the prototypes of two views (OnPro's OPE).

  The prototype of a class in a view is the normalised mean of its normalised
  projections. Each of the 2K prototypes of K classes is to be closer to its
  class in the other view than to all 2K - 2 others: NT-Xent at the temperature,
  averaged over prototypes. The paper adds this for the batch and for rows of a
  memory, each with the classes that occur in it; here the second is the same
  loss under `add_memory_gradient`. This is one of OnPro's three parts; its
  mixing of replayed rows (APF) is `prototypical_feedback`, its contrast of
  instances is left out.

  The term couples rows. It is given to them so that their mean, under the
  batch's `weight`, is w times the average over prototypes: a row gets its
  prototype's loss, over the prototype's share of the rows. Under `pmap` a
  device forms the prototypes of its own slice.

  Args:
    loss_fn: the loss on labels; it sees the logits.
    weight: w, at least 0; may be traced.
    temperature: of the contrast, above 0; may be traced.

  Returns:
    `loss_fn((logits, projections), batch) -> losses[batch]`, float32, of
    `projections[batch, features]`. It reads `labels`, `view[batch]` (False or
    True, which of its two views a row is) and, optionally, `weight`. A batch
    without `view`, as in evaluation, has `loss_fn` alone; a class without rows
    of weight in both views has no term.

  Raises:
    ValueError: if `weight` or `temperature` is out of range or, when a step is
      traced, projections or `view` are not of the shapes above.

  Example:
    >>> loss_fn = equilibrate_prototypes(weight=1.0, temperature=1.0)
    >>> batch = {
    ...   'labels': jnp.array([0, 1, 0, 1]),
    ...   'view': jnp.array([False, False, True, True]),
    ... }
    >>> flat = jnp.ones((4, 2))  # all prototypes are one: log 3, and log 2
    >>> [f'{x:.4f}' for x in loss_fn((jnp.zeros((4, 2)), flat), batch)]
    ['1.7918', '1.7918', '1.7918', '1.7918']

  References:
    Wei et al., `Online prototype learning for online continual learning
    <https://arxiv.org/abs/2308.00301>`_, 2023

    Code: https://github.com/weilllllls/OnPro
  """
  where = 'equilibrate_prototypes'
  base.check_value(where, 'weight', weight, minimum=0)
  base.check_value(where, 'temperature', temperature, above=0)

  def contrasted(outputs: tuple[jax.Array, jax.Array], batch: Batch):
    logits, projections = outputs
    losses = loss_fn(logits, batch)
    if 'view' not in batch:
      return losses
    if projections.ndim != 2 or batch['view'].shape != losses.shape:
      raise ValueError(
        f'{where}: projections have shape {projections.shape} and view '
        f'{batch["view"].shape}; they must be [batch, features] and [batch].'
      )
    counted = batch.get('weight', jnp.ones_like(losses)).astype(jnp.float32)
    member = _members(batch, logits.shape[-1], counted)
    term = _contrast(_unit(projections), member, temperature)
    return losses + weight * jnp.sum(counted) * term

  return contrasted


def _members(batch: Batch, classes: int, weight: jax.Array) -> jax.Array:
  """The weight of each row in each prototype, `[batch, 2 * classes]`.

  All zero in the columns of a class that does not occur in both views.
  """
  view = batch['view'].astype(jnp.int32)
  slot = jax.nn.one_hot(2 * batch['labels'] + view, 2 * classes)
  member = slot * weight[:, None]
  found = jnp.sum(member, axis=0).reshape(classes, 2) > 0
  both = jnp.repeat(jnp.all(found, axis=1), 2)
  return jnp.where(both[None], member, 0.0)


def _contrast(
  units: jax.Array, member: jax.Array, temperature: float | jax.Array
) -> jax.Array:
  """The term of each row, from its normalised projection, over all weight."""
  size = jnp.sum(member, axis=0)
  occurs = size > 0
  prototypes = _unit(member.T @ units)
  scores = prototypes @ prototypes.T / temperature
  others = occurs[None] & ~jnp.eye(len(size), dtype=bool)
  log_p = jax.nn.log_softmax(jnp.where(others, scores, -1e9), axis=-1)
  slots = jnp.arange(len(size))
  each = jnp.where(occurs, -log_p[slots, slots ^ 1], 0.0)
  # Rows of a prototype share its loss; the mean over rows is then that over
  # prototypes.
  share = each / jnp.where(occurs, size, 1.0)
  count = jnp.maximum(jnp.sum(occurs), 1).astype(jnp.float32)
  rows = (member > 0).astype(jnp.float32)
  return rows @ share / count


def _unit(x: jax.Array) -> jax.Array:
  """Rows over their norms, which are never taken below 1e-6; in float32."""
  wide = x.astype(jnp.float32)
  square = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
  return wide * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
