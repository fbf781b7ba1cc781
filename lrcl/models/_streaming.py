"""What the heads without gradients share: their form, and what they check."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_BY_CLASS = ('sums', 'means', 'cross', 'counts')  # classes are the first axis


class StreamingHead(NamedTuple):
  """A linear classifier on features that is computed, not trained.

  Its state holds sums over all rows so far, so that it depends on which rows
  came and not on their order or their batches, up to rounding. All functions
  are pure and may be jitted, scanned and vmapped; a `weight` stands for that
  many copies of a row, and rows of weight 0 (padding) or with a label outside
  the classes are left out.

  Attributes:
    init: `init() -> state`, before any row.
    update: `update(state, features, labels, weight=None) -> state`, with
      `features[batch, features]`, `labels[batch]` and `weight[batch]`.
    unlearn: of the same form. It takes rows out that have come before: the
      state is then that of a head that never saw them.
    readout: `readout(state) -> {'kernel': [features, classes], 'bias':
      [classes]}`: what `nn.Dense` takes, hence what `params['head']` of the
      networks here may be replaced by. A class that was not seen has kernel 0
      and bias -1e9: it loses against any logit of ordinary size.
    predict: `predict(state, features) -> labels[batch]`, int32: always a class
      that was seen, or -1 as long as there is none. For a `class_mask`, apply
      the readout and `lrcl.losses.argmax`.
  """

  init: Callable[[], Any]
  update: Callable[..., Any]
  unlearn: Callable[..., Any]
  readout: Callable[[Any], dict[str, jax.Array]]
  predict: Callable[[Any, jax.Array], jax.Array]


class Rows(NamedTuple):
  """A checked batch in the dtype of a state.

  Attributes:
    features: `[batch, features]`, zero in rows that are left out.
    targets: weighted one-hot labels `[batch, classes]`.
    weight: `[batch]`, zero in rows that are left out.
  """

  features: jax.Array
  targets: jax.Array
  weight: jax.Array


def grow_classes(state: Any, num_classes: int) -> Any:
  """Makes room for more classes in the state of a head.

  The new classes have not been seen. The functions of the head take the new
  state as it is; under jit they are compiled once more.

  Args:
    state: of `nearest_class_mean`, `streaming_lda` or `analytic_ridge`.
    num_classes: the new number of classes.

  Returns:
    A state of the same kind.

  Raises:
    ValueError: if there are more classes already.

  Example:
    >>> from lrcl import models
    >>> head = models.nearest_class_mean(num_features=2, num_classes=3)
    >>> grow_classes(head.init(), 5).sums.shape
    (5, 2)
  """
  more = num_classes - state.counts.shape[0]
  if more < 0:
    raise ValueError(
      f'grow_classes: num_classes is {num_classes}; the state has '
      f'{state.counts.shape[0]} already.'
    )
  pad = lambda x: jnp.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1))
  names = [name for name in _BY_CLASS if name in state._fields]
  return state._replace(**{name: pad(getattr(state, name)) for name in names})


def make_head(
  where: str,
  init: Callable[[], Any],
  learn: Callable[[Any, Rows, float], Any],
  readout: Callable[[Any], dict[str, jax.Array]],
) -> StreamingHead:
  """Builds a head from `learn(state, rows, sign)`, with sign 1 or -1."""

  def update(state, features, labels, weight=None):
    rows = check_rows(where, state.counts, features, labels, weight)
    return learn(state, rows, 1.0)

  def unlearn(state, features, labels, weight=None):
    rows = check_rows(where, state.counts, features, labels, weight)
    return learn(state, rows, -1.0)

  def predict(state, features):
    linear = readout(state)
    features = features.astype(linear['kernel'].dtype)
    logits = matmul(features, linear['kernel']) + linear['bias'][None]
    seen = jnp.broadcast_to(state.counts[None] > 0, logits.shape)
    # Not by the bias of -1e9 alone, which features can be large enough to beat.
    labels = jnp.argmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
    return jnp.where(jnp.any(seen, axis=-1), labels.astype(jnp.int32), -1)

  return StreamingHead(init, update, unlearn, readout, predict)


def check_rows(where, counts, features, labels, weight) -> Rows:
  """Checks shapes, and zeroes the rows that are left out."""
  weight = jnp.ones(labels.shape) if weight is None else weight
  shapes = features.shape, labels.shape, weight.shape
  if features.ndim != 2 or not shapes[1] == shapes[2] == shapes[0][:1]:
    raise ValueError(
      f'{where}: features, labels and weight have shapes {shapes}; they must '
      'be [batch, features], [batch] and [batch].'
    )
  one_hot = jax.nn.one_hot(labels, counts.shape[0], dtype=counts.dtype)
  weight = weight.astype(counts.dtype) * jnp.sum(one_hot, axis=1)
  # Not a product: what stands in padding may be NaN.
  kept = jnp.where(weight[:, None] != 0, features.astype(counts.dtype), 0)
  return Rows(kept, one_hot * weight[:, None], weight)


def default_dtype(dtype: Any) -> Any:
  """`dtype`, or the widest float that is enabled."""
  return jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)


def check_sizes(where: str, num_features: int, num_classes: int) -> None:
  """Raises a ValueError unless both are at least 1."""
  if num_features < 1 or num_classes < 1:
    raise ValueError(
      f'{where}: num_features is {num_features} and num_classes '
      f'{num_classes}; both must be >= 1.'
    )


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  """A product in full precision, also where the device offers less."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def unseen_bias(bias: jax.Array, counts: jax.Array) -> jax.Array:
  """`bias`, and -1e9 for a class that was not seen."""
  return jnp.where(counts > 0, bias, -1e9)
