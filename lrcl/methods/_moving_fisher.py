"""EWC without a pass over the data: a Fisher that moves along (EWC++)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _boundary, _gathering, _quadratic
from lrcl.methods._quadratic import Form


class MovingFisherState(NamedTuple):
  """State of `ewc_plus_plus`.

  Trees are float32 and like the parameters; `optax.MaskedNode` where masked
  out.

  Attributes:
    task_id: int32 scalar, the task of the last update; -1 before the first.
    normalize: bool scalar, whether importance is scaled, as given to the link.
    fisher: the moving average of squared gradients.
    importance: what it was at the end of the last task; zero during the first.
    anchor: the parameters at the same moment, during the first task those at
      `init`.
    inner_state: the state of what is wrapped.
  """

  task_id: jax.Array
  normalize: jax.Array
  fisher: base.Params
  importance: base.Params
  anchor: base.Params
  inner_state: Any

  def consolidate(
    self, params: base.Params, **kwargs: Any
  ) -> 'MovingFisherState':
    """Ends a task at `params`; the average goes on."""
    del kwargs
    params = tree.mask_like(params, self.anchor)
    pick = lambda a, b: jnp.where(self.normalize, a, b)
    scaled = _gathering.to_unit_range(self.fisher)
    return self._replace(
      importance=jax.tree.map(pick, scaled, self.fisher),
      anchor=_quadratic.wide_copy(params),
    )


def ewc_plus_plus(
  inner: optax.GradientTransformation,
  strength: Any,
  *,
  decay: Any = 0.9,
  normalize: bool = False,
  form: Form = 'coupled',
  mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Elastic weight consolidation that never looks back at data (EWC++).

  The Fisher is a moving average over the steps,
  :math:`\tilde F = d \tilde F + (1 - d) g^2`, with :math:`g` the gradient
  that enters (without the penalty); it starts as the first :math:`g^2`. At a
  task's end importance is :math:`F = \tilde F` and the anchor
  :math:`\theta^* = \theta`, and
  :math:`\frac{s}{2} \sum_i F_i (\theta_i - \theta^*_i)^2` is the penalty. The
  average goes on through all tasks, so earlier ones fade from it.

  A batch's gradient is a mean: its square is smaller than the mean over
  examples of `fisher_diagonal` by up to the batch size, and `strength` larger
  accordingly. `normalize` makes the penalty independent of that.

  The code of Chaudhry et al. averages the squares of 10 to 50 batches, gives
  each such mean the weight 0.9 (`decay=0.9` there is the weight of the *new*
  one), scales importance to [0, 1], and has no half in front of the penalty:
  `strength` is twice theirs, and `decay` near 0.9 to 0.98 has that horizon.

  Tasks end as for `synaptic_intelligence`: where `task_id` changes, or by a
  call of `lrcl.methods.consolidate`. Place in the chain: around the whole
  optimizer, as there. Cost: three float32 trees, however many tasks; two
  passes over them a step. Gradients flow through an update forwards only.

  Args:
    inner: the optimizer.
    strength: factor of the penalty, at least 0; may be traced.
    decay: weight of the old average, in [0, 1]; may be traced.
    normalize: whether importance is scaled to [0, 1], by its minimum and
      maximum over all held parameters.
    form: how the penalty acts, see `with_ewc_penalty`. All but `'coupled'`
      need an `inner` that ends with `scale_by_schedule_value`.
    mask: which leaves are held: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`. The others cost nothing.

  Returns:
    A transformation with the state `MovingFisherState`. It needs `params`, the
    extra arg `task_id`, and what `inner` needs. Updates keep their dtype.

  Raises:
    ValueError: if `strength` is negative, `decay` out of range, the form
      unknown, the mask selects nothing, or `inner` keeps no rate that the form
      could read.

  Example:
    >>> tx = ewc_plus_plus(optax.sgd(0.5), 1.0, decay=0.5)
    >>> params = jnp.array([1.0, 0.0])
    >>> state = tx.init(params)
    >>> for task in (0, 0, 1):
    ...   updates, state = tx.update(params, state, params, task_id=task)
    ...   params = optax.apply_updates(params, updates)
    >>> print(state.importance, state.anchor)
    [0.625 0.   ] [0.25 0.  ]

  References:
    Chaudhry et al., `Riemannian walk for incremental learning
    <https://arxiv.org/abs/1801.10112>`_, 2018; code
    https://github.com/facebookresearch/agem
  """
  base.check_value('ewc_plus_plus', 'decay', decay, minimum=0, maximum=1)

  def init_state(selected: base.Params) -> MovingFisherState:
    return MovingFisherState(
      task_id=_boundary.no_task(),
      normalize=jnp.array(normalize),
      fisher=_quadratic.zeros(selected),
      importance=_quadratic.zeros(selected),
      anchor=_quadratic.wide_copy(selected),
      inner_state=(),
    )

  def observe(state, gradient, first):
    fisher = _gathering.add_square(state.fisher, gradient, decay, first)
    return state._replace(fisher=fisher)

  return _gathering.gather(
    'ewc_plus_plus',
    inner,
    strength,
    init_state,
    observe,
    form=form,
    mask=mask,
    settings={'normalize': normalize},
  )
