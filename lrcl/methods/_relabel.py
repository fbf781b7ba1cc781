"""All labels of a stored row, where labels form a tree."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrcl import base
from lrcl.methods import _label_paths, _quadratic
from lrcl.methods._passes import mark_pass

_WHERE = 'relabel_memory'


class RelabelMemoryState(NamedTuple):
  """State of `relabel_memory`.

  Attributes:
    seen: bool `[nodes]`, the labels that occurred in the batches so far.
    inner_state: the state inside.
  """

  seen: jax.Array
  inner_state: Any


def relabel_memory(
  inner: optax.GradientTransformation,
  apply_fn: base.ApplyFn,
  parents: Sequence[int] | np.ndarray,
  *,
  threshold: float | jax.Array = 0.0,
  model_state: Any = None,
) -> optax.GradientTransformationExtraArgs:
  """Shows `inner` every drawn row once on each level of a tree of labels.

  Where labels grow finer (`lrcl.streams.hierarchical`), a stored row has the
  one label of its time. Here it gets one on every level, by `pseudo_labels`:
  those above its own are its ancestors, those below are what the model, at the
  current parameters, takes for the most likely among the children. A label has
  been expanded once all its children have occurred in batches before this one.

  All nodes of the tree share a head. With M drawn rows and L levels, `inner`
  sees a memory of L * M rows, first all of them on level 0 and so on, whose
  `labels` are nodes and whose `class_mask` is the level: one head per level in
  effect, for any loss that heeds the mask. Where a row has no label on a level,
  it has the weight 0 there, so that the loss of the memory is a mean over all
  labels that there are:

      tree = streams.label_tree(parents, classes)
      with_memory(
        relabel_memory(
          chain(add_memory_gradient(), ...), apply_fn, tree.parent),
        capacity, example, batch_size)

  Place in the chain: inside `with_memory`, around what uses the memory. Cost: a
  pass forward over M rows, and L * M rows instead of M for `inner`; a byte per
  node. The vocabulary has no outputs of the model at rows of one's choice,
  hence `apply_fn`. It is called with `rng=None` and `train=False`; under `pmap`
  every device computes all of it.

  This is the replay of PL-FMS, as far as it is known here: that pseudo-labels
  are the argmax over the children of an expanded label is not confirmed against
  the paper, and the gate by confidence is a guess [R]. Its memory lets new
  classes in first, which `with_memory(..., policy='class_balanced')` does, too:
  with nodes for labels every node gets its share. How it mixes rows of stream
  and memory is left out.

  Args:
    inner: what uses the memory.
    apply_fn: the model, see `lrcl.base.ApplyFn`, with an output per node.
    parents: the parent of each node, -1 for those of level 0:
      `lrcl.streams.LabelTree.parent`.
    threshold: see `pseudo_labels`; may be traced.
    model_state: what `apply_fn` needs besides parameters. It is constant here.

  Returns:
    A transformation that needs `params`, the extra args `batch` and `memory`,
    and what `inner` needs.

  Raises:
    ValueError: if `parents` are no tree or `threshold` is below 0 or, when a
      step is traced, `params` or the `labels` of the memory are missing or the
      model has another number of outputs.

  Example:
    >>> from lrcl import methods
    >>> apply_fn = lambda params, inputs, **_: (inputs @ params, ())
    >>> grad_fn = lambda params, batch: batch['labels'] * batch['weight']
    >>> tx = relabel_memory(
    ...   methods.add_memory_gradient(), apply_fn, [-1, 0, 0])
    >>> params = jnp.array([[0.0, 1.0, 3.0]])
    >>> memory = {'inputs': jnp.ones((2, 1)), 'labels': jnp.array([0, 1])}
    >>> args = dict(grad_fn=grad_fn, memory=memory, memory_ready=True,
    ...             batch={'labels': jnp.array([1, 2])})
    >>> state, zero = tx.init(params), jnp.zeros(4)
    >>> updates, state = tx.update(zero, state, params, **args)
    >>> print(updates)  # the first row has nothing below its own label yet
    [0. 0. 0. 1.]
    >>> updates, _ = tx.update(zero, state, params, **args)
    >>> print(updates)
    [0. 0. 2. 1.]

  References:
    Lee et al., `Online Continual Learning on Hierarchical Label Expansion
    <https://arxiv.org/abs/2308.14374>`_, 2023 (PL-FMS)
  """
  paths = _label_paths.paths_of(_WHERE, parents)
  base.check_value(_WHERE, 'threshold', threshold, minimum=0)
  inner = optax.with_extra_args_support(inner)
  model_state = {} if model_state is None else model_state

  def init_fn(params: base.Params) -> RelabelMemoryState:
    return RelabelMemoryState(jnp.zeros(len(paths), bool), inner.init(params))

  def relabel_memory_update(
    updates: Any,
    state: RelabelMemoryState,
    params: Any = None,
    *,
    batch: base.Batch,
    memory: base.Batch,
    **extra_args: Any,
  ) -> tuple[Any, RelabelMemoryState]:
    _quadratic.check_params(params, _WHERE)
    if 'labels' not in memory:
      raise ValueError(f'{_WHERE}: the memory has no labels.')
    logits, _ = apply_fn(
      params, memory['inputs'], rng=None, model_state=model_state, train=False
    )
    logits = mark_pass(logits, memory['inputs'].shape[0])
    labels = _label_paths.pseudo_labels(
      logits, memory['labels'], parents, state.seen, threshold=threshold
    )
    extra_args |= dict(batch=batch, memory=_expand(memory, labels, paths))
    updates, inner_state = inner.update(
      updates, state.inner_state, params, **extra_args
    )
    return updates, RelabelMemoryState(_see(state.seen, batch), inner_state)

  update_fn: Any = relabel_memory_update
  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _expand(
  memory: base.Batch, labels: jax.Array, paths: np.ndarray
) -> dict[str, jax.Array]:
  """The rows of a memory on level 0, on level 1, and so on."""
  rows, levels = labels.shape
  copies = lambda x: jnp.tile(x, (levels,) + (1,) * (x.ndim - 1))
  shown = jax.tree.map(copies, dict(memory))
  depth = (paths >= 0).sum(1) - 1
  mask = jnp.asarray(depth == np.arange(levels)[:, None])
  labels = labels.T.reshape(-1)
  weight = shown.get('weight', jnp.ones(rows * levels))
  return shown | {
    # A node of the right level where there is none: the loss stays finite.
    'labels': jnp.where(
      labels >= 0, labels, jnp.repeat(jnp.argmax(mask, 1), rows)
    ).astype(memory['labels'].dtype),
    'class_mask': jnp.repeat(mask, rows, axis=0),
    'weight': jnp.where(labels >= 0, weight, jnp.zeros_like(weight)),
  }


def _see(seen: jax.Array, batch: base.Batch) -> jax.Array:
  """The labels seen, with those of a batch."""
  labels = batch['labels']
  valid = batch.get('weight', jnp.ones(labels.shape)) > 0
  return seen.at[jnp.where(valid, labels, seen.size)].set(True, mode='drop')
