"""Which parts of a network a change of task moves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrcl import base, tree


def parameter_sensitivity(
  previous: base.Params, params: base.Params
) -> dict[str, jax.Array]:
  r"""How far the parameters of each module moved: the mean absolute change.

  For a module of n parameters, :math:`\lVert \theta - \theta_{previous}
  \rVert_1 / n`. Measured from epoch to epoch it is a trace in which some
  modules jump where a task begins: those are the ones that forget, see
  `sensitivity_jumps`. A module is what a leaf's name has in front of its last
  `/`, as `Dense_0` of `Dense_0/kernel`; a leaf without one stands for itself.

  Args:
    previous: the parameters an epoch ago.
    params: the parameters of the same run now.

  Returns:
    Float32 scalars by the name of the module.

  Example:
    >>> now = {'head': {'kernel': jnp.array([[3.0]]), 'bias': jnp.ones(3)}}
    >>> before = jax.tree.map(jnp.zeros_like, now)
    >>> print(parameter_sensitivity(before, now)['head'])
    1.5

  References:
    Zhao et al., `Does continual learning equally forget all parameters?
    <https://arxiv.org/abs/2304.04158>`_, 2023; whether the paper divides by the
    number of parameters alone was not confirmed [M].
  """
  size = lambda a, b: jnp.sum(
    jnp.abs(b.astype(jnp.float32) - a.astype(jnp.float32))
  )
  moved = jax.tree.map(size, previous, params)
  sums: dict[str, jax.Array] = {}
  for path, value in jax.tree_util.tree_leaves_with_path(moved):
    name = _module(path)
    sums[name] = sums[name] + value if name in sums else value
  counts = _counts(params)
  return {name: total / counts[name] for name, total in sums.items()}


def sensitivity_jumps(
  trace: Mapping[str, Sequence[Any]], switches: Sequence[int]
) -> dict[str, float]:
  """How much more a module moves in the first epoch of a task than otherwise.

  The mean over the epochs that follow a change of task, over the mean over
  all other epochs of later tasks than the first. What it compares is a choice
  [R]: the paper judges by the plotted traces.

  Args:
    trace: of each module, its sensitivity in each epoch.
    switches: the epochs that are the first of a task, without the first task.

  Returns:
    A ratio by the name of the module; NaN where it never moves otherwise.

  Raises:
    ValueError: if there is no switch, or no other epoch after the first one.

  Example:
    >>> trace = {'head': [1.0, 1.0, 8.0, 2.0], 'stem': [1.0, 0.5, 0.5, 0.5]}
    >>> sensitivity_jumps(trace, switches=[2])
    {'head': 4.0, 'stem': 1.0}

  References:
    Zhao et al., `Does continual learning equally forget all parameters?
    <https://arxiv.org/abs/2304.04158>`_, 2023
  """
  at = np.asarray(switches, int)
  jumps = {}
  for name, values in trace.items():
    values = np.asarray(values, np.float64)
    first = min(at, default=len(values))
    others = np.setdiff1d(np.arange(first, len(values)), at)
    if not others.size or max(at) >= len(values):
      raise ValueError(
        f'sensitivity_jumps: switches is {list(at)} of {len(values)} epochs; '
        'each must be one of them, and others must follow the first.'
      )
    calm = values[others].mean()
    jumps[name] = float(values[at].mean() / calm) if calm > 0 else float('nan')
  return jumps


def sensitive_mask(
  params: base.Params, jumps: Mapping[str, float], fraction: float
) -> Any:
  """Marks the modules that jump most, up to a share of all parameters.

  Modules are taken in the order of their jumps as long as they fit; the first
  one is taken in any case. By name instead of by measure, `lrcl.tree.path_mask`
  is the mask: of the last layer, `path_mask('head')`.

  Args:
    params: the parameters.
    jumps: of each module, as `sensitivity_jumps` gives them; the largest count
      as the most sensitive.
    fraction: the share of all parameters that may be marked, in (0, 1].

  Returns:
    A tree of bools like `params`, for `lrcl.training.fine_tune_on_memory`.

  Raises:
    ValueError: if `fraction` is out of range, or a module has no jump.

  Example:
    >>> params = {'head': {'kernel': jnp.ones(10)}, 'stem': jnp.ones(90)}
    >>> sensitive_mask(params, {'head': 4.0, 'stem': 1.0}, fraction=0.2)
    {'head': {'kernel': True}, 'stem': False}

  References:
    Zhao et al., `Does continual learning equally forget all parameters?
    <https://arxiv.org/abs/2304.04158>`_, 2023
  """
  where = 'sensitive_mask'
  base.check_value(where, 'fraction', fraction, above=0, maximum=1)
  counts = _counts(params)
  if set(counts) - set(jumps):
    raise ValueError(
      f'{where}: jumps lacks {sorted(set(counts) - set(jumps))}; it must have '
      'every module of params.'
    )
  room = fraction * sum(counts.values())
  chosen: set[str] = set()
  for name in sorted(counts, key=lambda name: -jumps[name]):
    if not chosen or counts[name] <= room:
      chosen.add(name)
      room -= counts[name]
  marked = lambda path, _: _module(path) in chosen
  return jax.tree_util.tree_map_with_path(marked, params)


def _module(path: Any) -> str:
  """What a leaf's name has in front of its last part."""
  name = tree.leaf_name(path)
  return name.rpartition('/')[0] or name


def _counts(params: base.Params) -> dict[str, int]:
  """How many parameters each module has."""
  counts: dict[str, int] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = _module(path)
    counts[name] = counts.get(name, 0) + leaf.size
  return counts
