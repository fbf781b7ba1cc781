"""The gallery shows every schedule, and shows it as it is."""

import inspect
import json
import typing

import numpy as np
import optax
import pytest

from experiments import modes
from experiments.configs import schedule_gallery
from experiments.gallery import __main__ as gallery
from experiments.gallery import make, page, plot, rows, values
from lrcl import schedules
from lrcl.schedules import _build

ROWS = rows.ROWS
HINT = 'run: python -m experiments.gallery'


def names_in(record):
  """The names of a record and of all records in it."""
  if isinstance(record, dict):
    found = {record['name']} if 'name' in record else set()
    return found.union(*map(names_in, record.values()))
  if isinstance(record, list | tuple):
    return set().union(*map(names_in, record))
  return set()


def gives_a_schedule(fn):
  kinds = (optax.Schedule, optax.schedules.StatefulSchedule)
  return typing.get_type_hints(fn).get('return') in kinds


def test_every_public_schedule_has_a_plot_of_its_own():
  public = {
    name
    for name, fn in inspect.getmembers(schedules, inspect.isfunction)
    if gives_a_schedule(fn)
  }
  public |= {
    name
    for name, fn in _build.TABLE.items()
    if fn.__module__.startswith('lrcl.')
  }
  assert {'wsd_schedule', 'per_task'} <= public
  assert public - {row['call']['name'] for row in ROWS.values()} == set()


def test_every_public_profile_is_shown():
  public = {name for name in dir(schedules) if name.endswith('_profile')}
  shown = names_in([[row['call'], row['vary']] for row in ROWS.values()])
  assert public and public - shown == set()


@pytest.mark.parametrize('name', ROWS)
def test_a_row_is_well_formed(name):
  row = ROWS[name]
  assert name.startswith(row['call']['name'])
  assert row['says'].endswith('.')
  for kwarg, options in row['vary'].items():
    assert row['call']['kwargs'].get(kwarg, options[0]) == options[0]


def test_the_page_is_current():
  text = page.format_page(ROWS, make.FOLDER)
  assert (gallery.DOCS / make.PAGE).read_text() == text, HINT
  plots = {path.stem for path in (gallery.DOCS / make.FOLDER).glob('*.svg')}
  assert plots == set(ROWS), HINT


def test_the_plots_show_the_values_of_today():
  drawn = {name: values.lines(row) for name, row in ROWS.items()}
  path = gallery.DOCS / make.FOLDER / make.VALUES
  kept, now = (
    {(name, label): line for name, row in all_.items() for label, line in row}
    for all_ in (
      {name: row.items() for name, row in json.loads(text).items()}
      for text in (path.read_text(), values.format_values(drawn))
    )
  )
  assert list(kept) == list(now), HINT
  for where, line in now.items():
    np.testing.assert_allclose(
      kept[where], line, rtol=2e-3, atol=1e-6, err_msg=f'{where}; {HINT}'
    )


def test_a_call_is_the_python_that_makes_the_schedule():
  for row in ROWS.values():
    call = page.format_call(row['call'])
    assert max(map(len, call.splitlines())) <= 80
    built = eval(call, {'schedules': schedules, 'optax': optax})
    assert isinstance(built, type(schedules.build_schedule(row['call'])))


def test_a_file_has_the_same_bytes_every_time_and_no_date():
  line = {"'linear'": np.linspace(1, 0, 50)}
  fed = {'task_id': np.repeat([0, 1], 25), 'value': np.linspace(2, 1, 50)}
  first, second = (
    plot.to_file(plot.draw(line, fed, legend='decay'), 'plot') for _ in range(2)
  )
  assert first == second
  assert 'task 1' in first and 'value' in first and 'decay' in first
  assert 'date' not in first.lower() and 'var(--' not in first
  assert 'prefers-color-scheme:dark' in first


def test_feeds_are_pieces_of_lines():
  fed = values.feeds(
    {'feed': {'task_id': [(0, 0, 2), (1, 1, 1)], 'value': [(2.0, 1.0, 3)]}}
  )
  assert fed['task_id'].dtype == np.int32
  np.testing.assert_array_equal(fed['task_id'], [0, 0, 1])
  np.testing.assert_array_equal(fed['value'], [2.0, 1.5, 1.0])


def test_the_mode_draws_a_configuration(tmp_path):
  config = schedule_gallery.get_config()
  config.rows = {'per_task': config.rows.per_task}
  modes.do(None, config, str(tmp_path))
  modes.do('gallery', config, str(tmp_path))  # the same once more
  files = {path.name for path in tmp_path.rglob('*') if path.is_file()}
  assert {'schedule_gallery.md', 'per_task.svg', 'values.json'} <= files


def test_a_mistake_in_a_row_writes_nothing(tmp_path):
  config = schedule_gallery.get_config()
  config.rows = {'wsd_schedule': config.rows.wsd_schedule}
  config.rows.wsd_schedule.call.kwargs.decay_steps = -1
  with pytest.raises(ValueError, match='decay_steps is -1'):
    modes.do(None, config, str(tmp_path / 'run'))
  with pytest.raises(ValueError, match='--mode=train does not go with'):
    modes.do('train', config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
