"""The table and the tree in the terminal."""

import io
import subprocess
import sys

import pytest

from lrcl import reports
from tests.reports.made_records import World, make_records

SMALL = World(tasks=2, seeds=(0, 1, 2), task_steps=40, decay_steps=20)


@pytest.fixture(scope='module')
def made():
  return make_records(SMALL)


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_plain_table(made):
  rows = reports.summarize(made)
  lines = reports.format_table(made).splitlines()
  assert len(lines) == 2 + len(rows)
  assert len({line.rindex(' ') for line in lines[2:]}) == 1  # aligned
  cells = {line.split()[0]: line for line in lines[2:]}
  assert cells['chance'].startswith('chance *')
  assert '0.100 ± 0.000' in cells['chance']
  assert cells['joint'].count(' -') == 10
  assert not cells['ewc'].startswith('ewc *')
  assert '25.6k' in cells['replay']


def test_columns_of_costs(made):
  heads, _, *lines = reports.format_table(made).splitlines()
  cells = {line.split()[0]: line.split() for line in lines}
  at = -len('forward|backward|gradient evals|memory|stored bytes|s'.split('|'))
  assert heads.split()[at - 2 :][:2] == ['forward', 'backward']
  assert cells['replay'][at : at + 2] == ['2', '2']
  assert cells['ewc'][at : at + 2] == ['1', '1']
  assert cells['replay'][-3:-1] == ['24k', '25.6k']
  assert cells['chance'][at : at + 2] == ['-', '-']  # it says nothing of them


def test_columns_of_costs_need_records_of_them(made):
  bare = [r | {'metrics': {'accuracy': r['metrics']['accuracy']}} for r in made]
  assert 'bytes' in reports.format_table(made)
  assert 'bytes' not in reports.format_table(bare)


def test_findings_stand_below(made):
  rows, out = reports.summarize(made), io.StringIO()
  reports.print_table(made, file=out)
  table, _, below = out.getvalue().partition('\n\n')
  assert table.startswith(reports.format_table(made))
  assert below.splitlines() == [f'- {s}' for s in reports.findings(rows)]


def test_rich_draws_on_a_terminal(made, monkeypatch):
  monkeypatch.setenv('COLUMNS', '200')
  monkeypatch.setenv('TERM', 'dumb')
  out = Terminal()
  reports.print_table(made, file=out)
  assert '──' in out.getvalue()
  assert 'nearest_mean *' in out.getvalue()


def test_a_terminal_without_rich(made, monkeypatch):
  monkeypatch.setitem(sys.modules, 'rich', None)
  out = Terminal()
  reports.print_table(made, file=out)
  assert reports.format_table(made) in out.getvalue()


def test_counts_are_short():
  from lrcl.reports import _summary, _table

  short = lambda x: _table.format_count(_summary._estimate([x]))
  assert [short(x) for x in (0, 999, 25600, 3.2e9, 5e15)] == [
    '0',
    '999',
    '25.6k',
    '3.2G',
    '5e+03T',
  ]
  assert _table.format_count(None) == '-'


def test_tree(made):
  again = [
    r | {'branch': 'again', 'parent': ['decay-40', 60], 'step': 80}
    for r in made
    if r['row'] == 'ewc' and r['branch'] == 'decay-40'
  ]
  text = reports.format_tree([r for r in made if r['row'] == 'ewc'] + again)
  lines = text.splitlines()
  assert lines[0] == 'ewc  (3 seeds)'
  assert lines[1].startswith('main  from 0, 80 steps  infinite_schedule  loss')
  assert lines[2].startswith('├─ decay-40  from 40, 20 steps  decay_branch')
  assert lines[3].startswith('│  └─ again  from 60, 20 steps')
  assert lines[4].startswith('└─ decay-80  from 80, 20 steps')
  main = reports.accuracy_matrix(made, 'ewc')[:, -1].mean()
  assert lines[1].endswith(f'accuracy {main:.3f}')


def test_tree_of_every_row(made):
  blocks = reports.format_tree(made).split('\n\n')
  assert len(blocks) == 7
  assert all('accuracy' in block for block in blocks)
  assert blocks[-1].endswith('main  not trained  accuracy 0.100')
  orphan = [r for r in made if r['branch'] == 'decay-40']
  assert 'decay-40  from 40' in reports.format_tree(orphan)


def test_the_import_is_light():
  code = (
    'import sys, lrcl.reports\n'  # rich comes with flax anyhow
    "bad = {'matplotlib', 'scipy.stats'} & set(sys.modules)\n"
    'sys.exit(repr(bad) if bad else 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
