"""Importance that is accumulated along the path of the parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _boundary, _gathering, _quadratic
from lrcl.methods._quadratic import Form


class SynapticState(NamedTuple):
  """State of `synaptic_intelligence`.

  Trees are float32 and like the parameters; `optax.MaskedNode` where masked
  out.

  Attributes:
    task_id: int32 scalar, the task of the last update; -1 before the first.
    damping: float32 scalar, the constant in the denominator, as given to the
      link.
    path: the task's path integral so far: how much each parameter has lowered
      the loss.
    importance: the sum over finished tasks; zero during the first.
    anchor: the parameters at the end of the last finished task, during the
      first those at `init`.
    inner_state: the state of what is wrapped.
  """

  task_id: jax.Array
  damping: jax.Array
  path: base.Params
  importance: base.Params
  anchor: base.Params
  inner_state: Any

  def consolidate(self, params: base.Params, **kwargs: Any) -> 'SynapticState':
    """Ends a task at `params`; a second call at the same point adds nothing."""
    del kwargs
    params = tree.mask_like(params, self.anchor)

    def add(importance, path, anchor, param):
      moved = jnp.square(_quadratic.wide(param) - anchor)
      return importance + jnp.maximum(path, 0.0) / (moved + self.damping)

    importance = jax.tree.map(
      add, self.importance, self.path, self.anchor, params
    )
    return self._replace(
      path=jax.tree.map(jnp.zeros_like, self.path),
      importance=importance,
      anchor=_quadratic.wide_copy(params),
    )


def synaptic_intelligence(
  inner: optax.GradientTransformation,
  strength: Any,
  *,
  damping: Any = 0.1,
  form: Form = 'coupled',
  mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Synaptic intelligence: holds what lowered the loss of earlier tasks.

  During a task, :math:`\omega` sums :math:`-g \, \Delta\theta` over the steps,
  with :math:`g` the gradient that enters (without the penalty) and
  :math:`\Delta\theta` the step that `inner` takes. At the task's end

  .. math::
    \Omega \mathrel{+}= \frac{\max(\omega, 0)}
    {(\theta - \theta^*)^2 + \xi}, \quad
    \theta^* = \theta, \quad \omega = 0,

  and :math:`\frac{s}{2} \sum_i \Omega_i (\theta_i - \theta^*_i)^2` is the
  penalty: `strength` is twice the paper's :math:`c`. Contributions below 0
  count as 0, as in the code of Chaudhry et al.; other code keeps their sign,
  and then a penalty may push.

  A task ends where `task_id` changes, a return to an earlier task included,
  and this link notices by itself: nothing outside has to be called and no data
  are looked at. On a stream whose `task_id` is constant,
  `lrcl.methods.consolidate(opt_state, params)` ends a task.

  Place in the chain: around the whole optimizer, since it needs the gradient
  that goes in and the step that comes out: `synaptic_intelligence(chain(clip,
  adam, rate), s)`. What is inside may be anything that makes a step:
  momentum and projections are accounted for. Terms of the objective inside
  (replay) shape the step but not the gradient; constraints behind it are not
  seen. `accumulate` and `with_memory` go around it. Cost: three float32 trees,
  however many tasks; two passes over them a step. Gradients flow through an
  update forwards (`jax.jvp`), not backwards.

  Args:
    inner: the optimizer.
    strength: factor of the penalty, at least 0; may be traced.
    damping: the constant :math:`\xi`, above 0: a parameter that did not move
      has at most the importance `path / damping`.
    form: how the penalty acts, see `with_ewc_penalty`. All but `'coupled'`
      need an `inner` that ends with `scale_by_schedule_value`.
    mask: which leaves are held: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`. The others cost nothing.

  Returns:
    A transformation with the state `SynapticState`. It needs `params`, the
    extra arg `task_id`, and what `inner` needs. Updates keep their dtype.

  Raises:
    ValueError: if `strength` is negative, `damping` not above 0, the form
      unknown, the mask selects nothing, or `inner` keeps no rate that the form
      could read.

  Example:
    >>> tx = synaptic_intelligence(optax.sgd(0.5), 1.0, damping=0.25)
    >>> params = jnp.array([1.0, 0.0])
    >>> state = tx.init(params)
    >>> for task in (0, 0, 1):
    ...   gradient = params if task == 0 else jnp.zeros(2)
    ...   updates, state = tx.update(gradient, state, params, task_id=task)
    ...   params = optax.apply_updates(params, updates)
    >>> print(state.importance, state.anchor)
    [0.7692308 0.       ] [0.25 0.  ]

  References:
    Zenke et al., `Continual learning through synaptic intelligence
    <https://arxiv.org/abs/1703.04200>`_, 2017

    Code: https://github.com/GMvandeVen/continual-learning,
    https://github.com/facebookresearch/agem
  """
  base.check_value('synaptic_intelligence', 'damping', damping, above=0)

  def init_state(selected: base.Params) -> SynapticState:
    return SynapticState(
      task_id=_boundary.no_task(),
      damping=jnp.array(damping, jnp.float32),
      path=_quadratic.zeros(selected),
      importance=_quadratic.zeros(selected),
      anchor=_quadratic.wide_copy(selected),
      inner_state=(),
    )

  return _gathering.gather(
    'synaptic_intelligence',
    inner,
    strength,
    init_state,
    form=form,
    mask=mask,
    settings={'damping': damping},
  )
