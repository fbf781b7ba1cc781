"""The page of the streams shows every scenario, and shows it as it is."""

import inspect

import numpy as np
import pytest

from experiments.stream_gallery import __main__ as gallery
from experiments.stream_gallery import draw, rows
from lrcl import streams

HINT = 'run: python -m experiments.stream_gallery'
# What `draw_tasks` gives depends on the run.
_NOT_SCENARIOS = {'draw_tasks', 'from_iterator', 'from_tfds', 'replicate'}


def test_every_scenario_has_a_picture():
  scenarios = {
    name
    for name, function in inspect.getmembers(streams, inspect.isfunction)
    if inspect.signature(function).return_annotation
    in (streams.Stream, 'Stream')
  }
  assert {'split', 'scole', 'mixture'} <= scenarios
  shown = {
    name
    for make in rows.ROWS
    for name in scenarios
    if f'streams.{name}(' in gallery.code_of(make)
  }
  assert scenarios - shown - _NOT_SCENARIOS == set()


@pytest.mark.parametrize('make', rows.ROWS, ids=lambda make: make.__name__)
def test_a_picture_is_of_its_stream(make):
  picture = gallery.DOCS / gallery.FOLDER / f'{make.__name__}.png'
  assert picture.exists(), HINT
  stream = make(*streams.digits())
  found = draw.shares(stream, rows.ROWS[make])
  total = found.sum(0)
  np.testing.assert_allclose(total[total > 0], 1, rtol=1e-9)
  assert (found >= 0).all() and found.shape[1] <= draw.COLUMNS


def test_the_page_is_current():
  path = gallery.DOCS / gallery.PAGE
  assert path.read_text() == gallery.format_page(), HINT
