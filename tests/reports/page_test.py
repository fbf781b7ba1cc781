"""The page and the picture: whole, self-contained, and true to the records."""

from html import parser
import re
import sys

import matplotlib
import numpy as np
import pytest

from lrcl import reports
from lrcl.reports import _draw_run, _draw_tasks, _draw_tree, _page, _style
from tests.reports.made_records import World, make_records, write_records

SMALL = World(tasks=2, seeds=(0, 1, 2), task_steps=60, decay_steps=40)
VOID = {'meta', 'br', 'path', 'use', 'rect', 'line', 'circle', 'image'}


@pytest.fixture(scope='module')
def made():
  return make_records(SMALL)


@pytest.fixture(scope='module')
def shown(made):
  return [r for r in made if r['row'] not in ('ewc', 'replay')]


@pytest.fixture(scope='module')
def text(shown, tmp_path_factory):
  workdir = write_records(shown, tmp_path_factory.mktemp('runs'))
  path = reports.write_report(workdir)
  assert path.name == 'report.html'
  return path.read_text()


class Checker(parser.HTMLParser):
  """Collects ids and complains of tags that are not closed in order."""

  def __init__(self):
    super().__init__()
    self.open, self.ids, self.texts = [], [], []

  def handle_starttag(self, tag, attrs):
    self.ids += [value for name, value in attrs if name == 'id']
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.ids += [value for name, value in attrs if name == 'id']

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


def test_it_is_well_formed_with_unique_ids(text):
  checker = Checker()
  checker.feed(text)
  assert checker.open == []
  assert len(checker.ids) == len(set(checker.ids))
  for reference in re.findall(r'(?:url\(#|href="#)([^)"]+)', text):
    assert reference in checker.ids


def test_it_needs_no_network_and_no_script(text):
  assert '<script' not in text
  assert not re.search(r'(src|href)="(?!#)', text)
  assert '@import' not in text
  outside = re.sub(r'xmlns(:xlink)?="[^"]*"', '', text)
  assert 'http' not in outside


def test_no_fixed_colour_stays_in_a_drawing(text):
  drawings = ''.join(re.findall(r'<svg.*?</svg>', text, re.DOTALL))
  assert 'var(--blue)' in drawings
  assert not re.findall(r'#[0-9a-f]{6}\b', drawings)


def test_the_numbers_are_those_of_the_summary(shown, text):
  for row in reports.summarize(shown):
    assert f'>{row["row"]}' in text
    assert f'<td>{row["average_accuracy"].mean:.3f}' in text
  for sentence in reports.findings(reports.summarize(shown)):
    assert sentence.replace(' ± ', '&nbsp;±&nbsp;') in text
  assert 'optax 0.2.8' in text
  assert 'a11cea11cea1' in text
  assert '0, 1, 2' in text


def test_the_best_run_is_open_and_drawn_with_its_tree(text):
  assert len(re.findall('<details open>', text)) == 1
  for name in ('run0', 'tree0', 'matrix0', 'gap0', 'run1', 'gap1'):
    assert f'id="{name}-' in text
  assert 'aria-label="Branches of replay_ewc_nap"' in text


def test_it_is_the_same_every_time(made):
  one = [r for r in made if r['row'] == 'replay']
  assert _page.page(one, title='x') == _page.page(one, title='x')


def test_names_are_escaped(made):
  nasty = [r | {'row': '<b>$x^2$ & "y"'} for r in made if r['row'] == 'ewc']
  text = _page.page(nasty, title='<i>')
  assert '<b>' not in text
  assert '<i>' not in text
  Checker().feed(text)


@pytest.mark.parametrize(
  'keep',
  [
    lambda r: r['row'] == 'chance',
    lambda r: r['row'] == 'joint',
    lambda r: r['row'] == 'replay' and r['branch'] == 'main',
    lambda r: r['row'] == 'replay' and r['step'] <= 40,
    lambda r: r['row'] == 'replay' and r['step'] <= 20,
  ],
)
def test_partial_records_still_make_a_page(made, keep):
  assert '</html>' in _page.page([r for r in made if keep(r)], title='x')


def test_odd_worlds_make_a_page():
  for world in (
    World(tasks=1, seeds=None, task_steps=40, decay_steps=20),
    World(tasks=14, seeds=(3,), task_steps=40, decay_steps=20),
  ):
    records = make_records(world, ('replay',))
    assert '</html>' in _page.page(records, title='x')
  twisted = make_records(SMALL, ('replay',))
  twisted = [r | {'task': 1 - r['task']} for r in twisted]
  assert '</html>' in _page.page(twisted, title='x')


def test_records_without_traces_versions_and_digests(shown):
  gone = ('trace', 'versions', 'config', 'plan', 'schedule', 'seeds')
  bare = []
  for record in shown:
    accuracy = record['metrics']['accuracy'][0]
    kept = {k: v for k, v in record.items() if k not in gone}
    bare.append(kept | {'metrics': {'accuracy': accuracy}})
  text = _page.page(bare, title='x')
  assert 'Branched runs' not in text
  assert 'Accuracy matrices' in text


def test_a_run_that_diverged_is_drawn_as_far_as_it_goes(made):
  bad = []
  for record in made:
    if record['row'] == 'replay' and record['branch'] == 'main':
      if record['step'] > 80:
        gone = [[None] * 20] * 3
        record = record | {'trace': record['trace'] | {'loss': gone}}
      bad.append(record)
  low, high = _draw_run.run_figure(bad, 'replay').axes[1].get_ylim()
  assert 0.05 < low < high < 20


@pytest.mark.parametrize(
  ('suffix', 'start'), [('png', b'\x89PNG'), ('svg', b'<?xml')]
)
def test_the_picture(made, tmp_path, suffix, start):
  path = reports.draw_branched_run(made, tmp_path / f'run.{suffix}')
  assert path.read_bytes().startswith(start)


def test_the_picture_shows_what_was_recorded(made):
  fig = _draw_run.run_figure(made, 'replay')
  rate, loss, accuracy = fig.axes
  assert len(rate.lines) == 3 + 1  # main, two branches, one boundary
  main = rate.lines[2]
  trace = reports.branch_trace(made, 'replay')
  np.testing.assert_array_equal(main.get_ydata(), trace.learning_rate[0])
  assert loss.get_yscale() == 'log'
  leaf = reports.decayed_matrix(made, 'replay')[:, -1].mean()
  ends = [line.get_ydata()[-1] for line in accuracy.lines]
  assert any(end == pytest.approx(leaf) for end in ends)
  for ax in fig.axes:
    assert ax.get_ylabel()


def test_the_picture_shows_the_effective_rate_where_there_is_one(made):
  add = lambda r, a, b: r | {'effective_learning_rate': {'v': a, 'w': b}}
  rates = lambda step: [x / (step + 1) for x in (1.0, 0.5, 0.25)]
  quarter = lambda step: [x / 4 for x in rates(step)]
  with_it = [add(r, rates(r['step']), quarter(r['step'])) for r in made]
  fig = _draw_run.run_figure(with_it, 'replay')
  assert [ax.get_ylabel() for ax in fig.axes] == list(_draw_run.PANELS)
  assert fig.axes[3].get_xlabel() and not fig.axes[2].get_xlabel()
  main = fig.axes[3].lines[2]
  want = [np.mean(rates(step)) / 2 for step in main.get_xdata()]
  np.testing.assert_allclose(main.get_ydata(), want)
  silent = [add(r, [None] * 3, [None] * 3) for r in made]
  assert len(_draw_run.run_figure(silent, 'replay').axes) == 3


def test_branches_of_one_kind_share_a_colour():
  names = ['main', 'decay-200-60', 'decay-40', 'sqrt', '7']
  kinds = [_draw_run.family(name) for name in names]
  assert kinds == ['main', 'decay', 'decay', 'sqrt', '7']


def test_the_tree_draws_later_forks_nearer_the_trunk(made):
  places = _draw_tree.tree_rows(made, 'replay')
  assert places == {'main': 0, 'decay-120': 1, 'decay-60': 2}


def test_the_heat_map_has_every_number(made):
  fig = _draw_tasks.matrix_figure(made, 'replay')
  for ax, matrix in zip(
    fig.axes,
    (
      reports.accuracy_matrix(made, 'replay'),
      reports.decayed_matrix(made, 'replay'),
    ),
    strict=True,
  ):
    shown = [t.get_text() for t in ax.texts]
    assert shown == [f'{x:.2f}' for x in matrix.mean(0).ravel()]


def test_picture_errors(made, tmp_path):
  with pytest.raises(ValueError, match=r'run.pdf must be .png or .svg'):
    reports.draw_branched_run(made, tmp_path / 'run.pdf')
  trunk = [r for r in made if r['branch'] == 'main']
  with pytest.raises(ValueError, match='no row has a branch besides main'):
    reports.draw_branched_run(trunk, tmp_path / 'run.png')
  with pytest.raises(KeyError, match="'nobody'"):
    reports.draw_branched_run(made, tmp_path / 'run.png', row='nobody')


def test_matplotlib_is_missing(made, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(ImportError, match=r"pip install 'lrcl\[experiments\]'"):
    _page.page(made, title='x')


def test_global_state_is_left_alone(made):
  before = dict(matplotlib.rcParams)
  _page.page(make_records(SMALL, ('replay',)), title='x')
  assert dict(matplotlib.rcParams) == before


def test_long_traces_are_thinned():
  steps, values = np.arange(10_001), np.arange(20_002.0).reshape(2, -1)
  x, y = _style.thin(steps, values, 300)
  assert (len(x), x[0], x[-1]) == (300, 0, 10_000)
  np.testing.assert_array_equal(y[0], x)
  x, y = _style.bucket(steps, values, 40)
  assert y.shape == (2, 251)
  np.testing.assert_allclose(y[0], x)
  assert _style.bucket(steps, values, 1)[0] is steps
