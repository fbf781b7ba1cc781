"""Memory-aware synapses: importance for what the network computes."""

from collections.abc import Iterable
from typing import Any

from lrcl import base
from lrcl.methods._fisher_pass import mean_over_examples
from lrcl.methods._fisher_sums import OUTPUTS


def mas_importance(
  apply_fn: base.ApplyFn,
  params: base.Params,
  batches: base.Batch | Iterable[base.Batch],
  *,
  mask: Any = None,
  model_state: Any = None,
) -> base.Params:
  r"""Mean over examples of how much each parameter moves the outputs (MAS).

  :math:`\Omega_i = E_x |\partial_i \lVert f_\theta(x) \rVert^2|`, with
  :math:`f` the logits: the importance of memory-aware synapses, for the
  penalty of `add_ewc_penalty`. It looks at no label, so any inputs will do,
  those of a test included:

      importance = mas_importance(apply_fn, params, task_data)
      consolidate(opt_state, params, fisher=importance, merge='online')

  Papers anchor at the newest parameters, hence `merge='online'`. Importance
  adds up over tasks, as in the authors' paper; FACIL's average with the weight
  :math:`\alpha` of the old is `decay=alpha` and `(1 - alpha)` times the new
  importance. FACIL also takes the norm without the square and the gradient of
  a batch's mean; here, as in the paper, each example counts by its own
  gradient's absolute value. A source that writes
  :math:`\lambda \sum_i \Omega_i (\theta_i - \theta^*_i)^2` without the half
  has `strength` equal to :math:`2 \lambda`.

  Everything else is as for `fisher_diagonal`: weights, ways, forms of batches,
  `jit` and `vmap`. Where the batch holds a `class_mask`, the norm is over the
  allowed classes; for tokens it is the mean over time. Cost: one backward pass
  over the examples, for dense networks about a training step over them.

  Args:
    apply_fn: the model, see `lrcl.base.ApplyFn`; best the same object at each
      call.
    params: its parameters.
    batches: see `fisher_diagonal`; `labels` are not needed.
    mask: which leaves are wanted: None for all, a tree of bools, or a
      function such as `lrcl.tree.path_mask('kernel$')`. Papers leave the
      head out.
    model_state: what `apply_fn` needs besides parameters.

  Returns:
    A tree like `params`, float32, not negative; `optax.MaskedNode` for
    leaves that are not wanted; 0 where all weights are 0.

  Raises:
    ValueError: if there are no batches, the mask selects nothing, or the
      logits have a rank other than 2 and 3.

  Example:
    >>> import jax.numpy as jnp
    >>> apply_fn = lambda params, inputs, **_: (inputs @ params, ())
    >>> batch = {'inputs': jnp.array([[1.0], [-1.0]])}
    >>> print(mas_importance(apply_fn, jnp.array([[1.0, -3.0]]), batch))
    [[2. 6.]]

  References:
    Aljundi et al., `Memory aware synapses: learning what (not) to forget
    <https://arxiv.org/abs/1711.09601>`_, 2018

    Masana et al., code of FACIL, https://github.com/mmasana/FACIL
  """
  return mean_over_examples(
    'mas_importance',
    apply_fn,
    params,
    batches,
    OUTPUTS,
    key=None,
    mask=mask,
    model_state=model_state,
  )
