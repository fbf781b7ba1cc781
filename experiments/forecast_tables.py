"""The tables and the picture of a forecast."""

from collections.abc import Sequence
import pathlib
from typing import Any

import jax
import numpy as np

from lrcl import forecasting
from lrcl.reports import _style

_HEAD = f'{"curve":24}{"R2":>8}{"MAE":>9}{"RMSE":>9}{"PredE":>9}{"WorstE":>9}'


def predict(law: Any, curve: forecasting.Curve) -> np.ndarray:
  """The law's losses at the readings of a curve, in float64."""
  with jax.enable_x64(True):
    return np.asarray(law.predict(curve.lrs, curve.steps))


def table(law: Any, curves: Sequence[forecasting.Curve]) -> str:
  """A row of scores for every curve, and their mean."""
  scores = [
    forecasting.score(predict(law, curve), curve.losses) for curve in curves
  ]
  mean = forecasting.Scores(*np.mean(scores, axis=0))
  rows = [*zip((curve.name for curve in curves), scores, strict=True)]
  return '\n'.join([_HEAD, *(_row(*row) for row in rows), _row('mean', mean)])


def _row(name: str, scores: forecasting.Scores) -> str:
  r2, *errors = scores
  return f'{name:24}{r2:8.4f}' + ''.join(f'{error:9.5f}' for error in errors)


def describe(law: Any) -> str:
  """A law in one line."""
  values = (f'{name}={value:.6g}' for name, value in law._asdict().items())
  return f'{type(law).__name__}({", ".join(values)})'


def draw(
  law: Any, curves: Sequence[forecasting.Curve], path: pathlib.Path
) -> None:
  """Draws the measured losses as dots and the law as lines, curve by curve."""
  columns = min(3, len(curves))
  rows = -(-len(curves) // columns)
  fig = _style.new_figure('forecast', 3.6 * columns, 2.7 * rows)
  axes = fig.subplots(rows, columns, squeeze=False).reshape(-1)
  for ax, curve in zip(axes, curves, strict=False):
    _panel(ax, law, curve)
  for ax in axes[len(curves) :]:
    ax.set_visible(False)
  axes[0].legend(frameon=False, fontsize=8.5, labelcolor=_style.LIGHT['ink'])
  path.parent.mkdir(parents=True, exist_ok=True)
  fig.savefig(path, dpi=160)


def _panel(ax: Any, law: Any, curve: forecasting.Curve) -> None:
  shown, losses = _style.thin(curve.steps, curve.losses, 60)
  ax.plot(
    shown, losses, 'o', color=_style.LIGHT['orange'], markersize=2.6,
    label='measured',
  )  # fmt: skip
  ax.plot(
    curve.steps, predict(law, curve), color=_style.LIGHT['blue'],
    linewidth=1.3, label='predicted',
  )  # fmt: skip
  _style.dress(ax)
  ax.locator_params(axis='x', nbins=4)
  _style.label(ax, x='step', y='loss', title=curve.name)
