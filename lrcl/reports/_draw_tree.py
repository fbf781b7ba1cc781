"""The picture of a branch tree: trunk, forks at their steps, results."""

from collections.abc import Sequence
from typing import Any

from lrcl.reports import _draw_run, _records, _style, _tree
from lrcl.reports._records import Record
from lrcl.reports._style import LIGHT


def tree_figure(records: Sequence[Record], row: str) -> Any:
  """The trunk with its forks at their steps, and the result at each leaf."""
  places = tree_rows(records, row)
  fig = _style.new_figure('write_report', 10, 0.75 + 0.3 * len(places))
  ax = fig.subplots()
  colors = _draw_run.family_colors(_records.branch_names(records, row))
  last = _draw_run.last_step(records, row)
  for name in places:
    _draw_branch(ax, records, row, name, places, colors[_draw_run.family(name)])
  _style.dress(ax, grid=False)
  ax.spines['left'].set_visible(False)
  ax.set_yticks([])
  ax.set_xlim(-0.012 * last, last * 1.42)
  ax.set_ylim(-len(places) + 0.4, 0.7)
  ax.set_xticks([t for t in ax.get_xticks() if 0 <= t <= last])
  ax.spines['bottom'].set_bounds(0, last)
  _style.label(ax, x='step')
  ax.xaxis.set_label_coords(0.35, -0.27 / (0.3 * len(places)))
  return fig


def tree_rows(records: Sequence[Record], row: str) -> dict[str, int]:
  """The line on which each branch is drawn, counted from the top.

  The latest fork lies next to its trunk, so that no line crosses another.
  """
  places: dict[str, int] = {}

  def place(name: str) -> None:
    places[name] = len(places)
    for child in _tree.children(records, row, name)[::-1]:
      place(child)

  for root in _tree.children(records, row, None):
    place(root)
  return places


def _draw_branch(
  ax: Any,
  records: Sequence[Record],
  row: str,
  name: str,
  places: dict[str, int],
  color: str,
) -> None:
  facts = _tree.branch_facts(records, row, name)
  parent = _records.parent_of(records, row, name)
  y, start = -places[name], facts['fork'] or 0
  if parent is not None and parent[0] in places:
    ax.plot([start, start], [-places[parent[0]], y], color=color, linewidth=1.2)
    trunk = -places[parent[0]]
    ax.plot([start], [trunk], 'o', color=color, markersize=3, zorder=3)
  width = 2.4 if parent is None else 1.6
  ax.plot([start, facts['end']], [y, y], color=color, linewidth=width)
  ax.plot([facts['end']], [y], 'o', color=color, markersize=6.5)
  texts = [name, facts['schedule']]
  if facts['accuracy'] is not None:
    texts.append(f'accuracy {facts["accuracy"]:.3f}')
  if facts['loss'] is not None:
    texts.append(f'loss {facts["loss"]:.3f}')
  ax.annotate(
    _style.plain(' · '.join(text for text in texts if text)),
    (facts['end'], y),
    (8, 0),
    textcoords='offset points',
    va='center',
    fontsize=8.5,
    color=LIGHT['ink'],
  )
