"""The diagonal of the Fisher information, example by example."""

from collections.abc import Iterable
from typing import Any, Literal

import jax

from lrcl import base
from lrcl.methods._fisher_pass import mean_over_examples

Estimator = Literal['exact', 'sampled', 'predicted', 'empirical']
_ESTIMATORS = ('exact', 'sampled', 'predicted', 'empirical')


def fisher_diagonal(
  apply_fn: base.ApplyFn,
  params: base.Params,
  batches: base.Batch | Iterable[base.Batch],
  *,
  estimator: Estimator = 'exact',
  key: jax.Array | None = None,
  mask: Any = None,
  model_state: Any = None,
) -> base.Params:
  r"""Mean over examples of the squared gradient of the log-likelihood.

  What `EwcState.consolidate` takes as importance:
  :math:`F_i = E_x E_y (\partial_i \log p_\theta(y | x))^2`. The estimators
  differ in the label:

  * `'exact'`: the expectation under the model, one backward pass a class;
  * `'sampled'`: one draw from the model, unbiased;
  * `'predicted'`: the model's most likely class;
  * `'empirical'`: `batch['labels']`, the empirical Fisher.

  The gradients are those of single examples: the square of a batch's mean
  gradient is smaller by up to the batch size, and by more at a minimum.
  Examples count in proportion to `batch['weight']`; padding of weight 0
  counts nothing (its values must be finite). Where the batch holds a
  `class_mask`, `p` is the softmax over the allowed classes.

  Two ways, chosen when it is traced, with the same result up to rounding:

  * Where every selected leaf belongs to a flax.linen `nn.Dense` that is
    called once with `[batch, features]`, squares of activations and of
    cotangents are multiplied, `(a * a).T @ (d * d)`: about one training step
    over the same examples. The rest of such a network must treat each example
    alone (normalisation over features does; over the batch does not). Pass
    `apply_fn` without `jit`, which hides the layers.
  * Any other model: a loop over single examples, correct whatever couples a
    batch, since each batch is one example. For a perceptron on a CPU it takes
    4 times as long, 15 times with `'exact'` and ten classes (a vmap of
    per-example gradients, 100 times).

  The model runs with `train=False` and without `rng`. Token models (logits
  `[batch, time, vocabulary]`): the loop, with the gradient of the mean
  log-likelihood over time; not `'exact'`, which would need a pass for each
  token and word.

  It may be jitted, and mapped over seeds of `params` by `vmap` or `lax.map`
  (the latter on a CPU). Cost in memory: the activations of one batch and one
  float32 tree like the selected parameters.

  Args:
    apply_fn: the model, see `lrcl.base.ApplyFn`; hashable, and best the same
      object at each call, since what is compiled is kept with it.
    params: its parameters.
    batches: one batch; or batches stacked along a first axis,
      recognised by a `weight` of shape `[n, batch]`; or an iterable of
      batches, best all of one shape. A batch without `weight` is one batch
      of equal weights.
    estimator: which labels, see above.
    key: PRNG key for `'sampled'`. An example's draw depends on the key and on
      its position, not on how the rows are cut into batches.
    mask: which leaves are wanted: None for all, a tree of bools, or a
      function such as `lrcl.tree.path_mask('kernel$')`.
    model_state: what `apply_fn` needs besides parameters.

  Returns:
    A tree like `params`, float32, not negative; `optax.MaskedNode` for
    leaves that are not wanted; 0 where all weights are 0.

  Raises:
    ValueError: if `estimator` is not known, `key` is missing for `'sampled'`,
      there are no batches, the mask selects nothing, or the logits have a
      rank that the estimator cannot take.

  Example:
    >>> import jax.numpy as jnp
    >>> apply_fn = lambda params, inputs, **_: (inputs @ params, ())
    >>> batch = {'inputs': jnp.array([[2.0]]), 'weight': jnp.ones(1)}
    >>> print(fisher_diagonal(apply_fn, jnp.zeros((1, 2)), batch).round(3))
    [[1. 1.]]

  References:
    Kirkpatrick et al., `Overcoming catastrophic forgetting in neural networks
    <https://arxiv.org/abs/1612.00796>`_, 2017

    van de Ven, `On the computation of the Fisher information in continual
    learning <https://arxiv.org/abs/2502.11756>`_, 2025; code
    https://github.com/GMvandeVen/continual-learning
  """
  _check(estimator, key)
  return mean_over_examples(
    'fisher_diagonal',
    apply_fn,
    params,
    batches,
    estimator,
    key=key if estimator == 'sampled' else None,
    mask=mask,
    model_state=model_state,
  )


def _check(estimator: str, key: Any) -> None:
  if estimator not in _ESTIMATORS:
    raise ValueError(
      f'fisher_diagonal: estimator is {estimator!r}; use one of {_ESTIMATORS}.'
    )
  if estimator == 'sampled' and key is None:
    raise ValueError("fisher_diagonal: 'sampled' needs a key; pass key=.")
