"""A plan as a picture: what comes when."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.stream_gallery import rows
from lrcl import streams
from lrcl.reports import _style
from lrcl.reports._style import LIGHT

COLUMNS = 100
SHOWN_ROWS = 40  # of single rows, as many as a picture has room for


def shares(stream: streams.Stream, axis: str) -> np.ndarray:
  """What each stretch of steps is made of.

  Args:
    stream: a stream that ends.
    axis: see `rows.ROWS`.

  Returns:
    `[values, columns]`: the share of each value in the rows of each of at most
    `COLUMNS` stretches; 0 for padding.
  """
  chunk = stream.chunk(0, stream.num_steps)
  values = _values(stream, chunk, axis)
  columns = _count_columns(stream.num_steps)
  column = np.arange(stream.num_steps) * columns // stream.num_steps
  found = np.zeros((values.max() + 1, columns))
  column = np.broadcast_to(column[:, None], values.shape)
  np.add.at(found, (values, column), chunk.weights)
  if axis == rows.ROW:
    found = found[:SHOWN_ROWS]
  return found / np.maximum(found.sum(0), 1e-12)


def _count_columns(steps: int) -> int:
  """At most `COLUMNS`, of equally many steps where that leaves half of them."""
  most = min(COLUMNS, steps)
  even = [count for count in range(most // 2, most + 1) if steps % count == 0]
  return even[-1] if even and even[-1] else most


def _values(
  stream: streams.Stream, chunk: streams.PlanChunk, axis: str
) -> np.ndarray:
  """`[steps, batch]`: where every row stands on the vertical axis."""
  if axis == rows.ROW:
    numbers = np.unique(chunk.indices, return_inverse=True)[1]
    return numbers.reshape(chunk.indices.shape)
  found = stream.rows(chunk.indices)
  if axis == rows.CLASS:
    return found['labels']
  tables = jax.tree.map(jnp.asarray, stream.tables)
  make = lambda row, task, weight: streams.make_batch(
    row, tables, task, weight, stream.prepare
  )
  batches = jax.jit(jax.vmap(make))(found, chunk.task_ids, chunk.weights)
  return np.asarray(batches['task' if axis == rows.TASK else 'labels'])


def draw(found: np.ndarray, stream: streams.Stream, axis: str) -> Any:
  """The picture as a figure.

  Args:
    found: from `shares`.
    stream: gives the length and the boundaries.
    axis: what the vertical axis is.
  """
  fig = _style.new_figure('draw', 7.5, 1.0 + 0.13 * min(len(found), 14))
  ax = fig.subplots()
  _style.dress(ax, grid=False)
  shades = _style_map()
  top = np.quantile(found[found > 0], 0.95)
  ax.imshow(
    found,
    aspect='auto',
    origin='lower',
    interpolation='nearest',
    cmap=shades,
    vmin=0,
    vmax=top,
    extent=(0, stream.num_steps, -0.5, len(found) - 0.5),
  )
  boundaries = list(stream.boundaries)
  if len(boundaries) <= 20:
    for step in boundaries:
      ax.axvline(step, color=LIGHT['orange'], linewidth=0.9)
  ax.yaxis.get_major_locator().set_params(integer=True, nbins=5)
  _style.label(ax, x='step', y=axis)
  return fig


def _style_map() -> Any:
  """From the paper's colour to ink, by way of blue."""
  from matplotlib import colors

  stops = [LIGHT['surface'], LIGHT['sky'], LIGHT['blue'], LIGHT['ink']]
  return colors.LinearSegmentedColormap.from_list('shares', stops)
