"""Riemannian walk: a moving Fisher, and scores of the path in its metric."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrcl import base, tree
from lrcl.methods import _boundary, _gathering, _quadratic
from lrcl.methods._quadratic import Form


class RiemannianWalkState(NamedTuple):
  """State of `riemannian_walk`.

  Trees are float32 and like the parameters; `optax.MaskedNode` where masked
  out.

  Attributes:
    task_id: int32 scalar, the task of the last update; -1 before the first.
    tasks: int32 scalar, the tasks that have ended.
    count: int32 scalar, the updates in the open window.
    damping: float32 scalar, the constant in the denominator, as given to the
      link.
    fisher: the moving average of squared gradients.
    path: how much each parameter has lowered the loss in the open window.
    start: the parameters when the window was opened.
    score: the sum over the closed windows of this task.
    mean_score: of finished tasks; each new one counts half.
    importance: normalised Fisher plus normalised mean score, at the end of the
      last task; zero during the first.
    anchor: the parameters at the same moment, during the first task those at
      `init`.
    inner_state: the state of what is wrapped.
  """

  task_id: jax.Array
  tasks: jax.Array
  count: jax.Array
  damping: jax.Array
  fisher: base.Params
  path: base.Params
  start: base.Params
  score: base.Params
  mean_score: base.Params
  importance: base.Params
  anchor: base.Params
  inner_state: Any

  def close_window(self, params: base.Params) -> 'RiemannianWalkState':
    """Adds the open window to the score and opens the next at `params`."""
    params = tree.mask_like(params, self.anchor)

    def add(score, path, fisher, start, param):
      moved = fisher * jnp.square(_quadratic.wide(param) - start)
      return score + jnp.maximum(path, 0.0) / (moved + self.damping)

    return self._replace(
      count=jnp.zeros_like(self.count),
      path=jax.tree.map(jnp.zeros_like, self.path),
      start=_quadratic.wide_copy(params),
      score=jax.tree.map(
        add, self.score, self.path, self.fisher, self.start, params
      ),
    )

  def consolidate(
    self, params: base.Params, **kwargs: Any
  ) -> 'RiemannianWalkState':
    """Ends a task at `params`; does nothing if no update was made in it."""
    del kwargs
    end = lambda state, params: state.close_window(params)._end_task(params)
    return _boundary.run_alone(self.count > 0, end, self, params)

  def _end_task(self, params: base.Params) -> 'RiemannianWalkState':
    """Averages the scores and makes the penalty of all tasks so far."""
    old = jnp.where(self.tasks > 0, 0.5, 0.0)
    mean = lambda m, s: old * m + (1.0 - old) * s
    mean_score = jax.tree.map(mean, self.mean_score, self.score)
    scaled = (
      _gathering.to_unit_range(self.fisher),
      _gathering.to_unit_range(mean_score),
    )
    return self._replace(
      tasks=self.tasks + 1,
      score=jax.tree.map(jnp.zeros_like, self.score),
      mean_score=mean_score,
      importance=jax.tree.map(jnp.add, *scaled),
      anchor=_quadratic.wide_copy(tree.mask_like(params, self.anchor)),
    )


def riemannian_walk(
  inner: optax.GradientTransformation,
  strength: Any,
  *,
  decay: Any = 0.9,
  every: int = 10,
  damping: Any = 1e-3,
  form: Form = 'coupled',
  mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Riemannian walk: EWC++ plus scores of the path (RWalk).

  Two measures of importance are added. The Fisher is that of `ewc_plus_plus`,
  a moving average of squared gradients. The score is the loss that a
  parameter saved, per distance that it moved, in the metric of that Fisher:
  windows of `every` steps add

  .. math::
    \frac{\max(-\sum g \, \Delta\theta, \; 0)}
    {\tilde F (\theta - \theta_{start})^2 + \epsilon}

  to it, with :math:`g` the gradient that enters (without the penalty). At a
  task's end the mean score becomes the average of itself and the task's (the
  first task's counts whole), both measures are scaled to [0, 1] over all held
  parameters, and :math:`\frac{s}{2} \sum_i (F_i + S_i)
  (\theta_i - \theta^*_i)^2` is the penalty: `strength` is twice the
  :math:`\lambda` of the authors' code.

  That code differs in three things. It adds the average to the old score
  (`s + (s + new) / 2`) where the paper averages; it drops the window that is
  open at a task's end, which is closed here; it averages the Fisher over a
  window before it enters the moving average. As there, and unlike the paper
  (not confirmed), the distance has no factor 1/2.

  Tasks end as for `synaptic_intelligence`: where `task_id` changes, or by a
  call of `lrcl.methods.consolidate`. Place in the chain: around the whole
  optimizer, as there. Cost: seven float32 trees, however many tasks; two
  passes over four of them a step. Gradients flow through an update forwards
  only.

  Args:
    inner: the optimizer.
    strength: factor of the penalty, at least 0; may be traced.
    decay: weight of the old Fisher, in [0, 1], see `ewc_plus_plus`.
    every: steps in a window of the score.
    damping: the constant :math:`\epsilon`, above 0.
    form: how the penalty acts, see `with_ewc_penalty`. All but `'coupled'`
      need an `inner` that ends with `scale_by_schedule_value`.
    mask: which leaves are held: None for all, a tree of bools, or a function
      such as `lrcl.tree.path_mask('kernel$')`. The others cost nothing.

  Returns:
    A transformation with the state `RiemannianWalkState`. It needs `params`,
    the extra arg `task_id`, and what `inner` needs. Updates keep their dtype.

  Raises:
    ValueError: if `strength` is negative, `decay` out of range, `every` not a
      number of steps, `damping` not above 0, the form unknown, the mask
      selects nothing, or `inner` keeps no rate that the form could read.

  Example:
    >>> tx = riemannian_walk(optax.sgd(0.5), 1.0, every=1)
    >>> params = jnp.array([1.0, 0.0])
    >>> state = tx.init(params)
    >>> for task in (0, 0, 1):
    ...   updates, state = tx.update(params, state, params, task_id=task)
    ...   params = optax.apply_updates(params, updates)
    >>> print(state.importance, state.anchor)
    [2. 0.] [0.25 0.  ]

  References:
    Chaudhry et al., `Riemannian walk for incremental learning
    <https://arxiv.org/abs/1801.10112>`_, 2018; code
    https://github.com/facebookresearch/agem
  """
  where = 'riemannian_walk'
  base.check_value(where, 'decay', decay, minimum=0, maximum=1)
  base.check_steps(where, 'every', every, minimum=1)
  base.check_value(where, 'damping', damping, above=0)

  def init_state(selected: base.Params) -> RiemannianWalkState:
    zeros = functools.partial(_quadratic.zeros, selected)
    return RiemannianWalkState(
      task_id=_boundary.no_task(),
      tasks=jnp.zeros([], jnp.int32),
      count=jnp.zeros([], jnp.int32),
      damping=jnp.array(damping, jnp.float32),
      fisher=zeros(),
      path=zeros(),
      start=_quadratic.wide_copy(selected),
      score=zeros(),
      mean_score=zeros(),
      importance=zeros(),
      anchor=_quadratic.wide_copy(selected),
      inner_state=(),
    )

  def enter(state, params, task_id):
    state = _boundary.enter(state, params, task_id)
    close = lambda state, params: state.close_window(params)
    return _boundary.run_alone(state.count >= every, close, state, params)

  def observe(state, gradient, first):
    fisher = _gathering.add_square(state.fisher, gradient, decay, first)
    return state._replace(count=state.count + 1, fisher=fisher)

  return _gathering.gather(
    where,
    inner,
    strength,
    init_state,
    observe,
    form=form,
    mask=mask,
    settings={'damping': damping},
    enter=enter,
  )
