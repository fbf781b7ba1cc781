"""Periods, and the stream of texts that come period after period."""

import datetime
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import streams
from lrcl.streams import byte_tokenizer, date_periods, dated_text


def _corpus(per_decade=6, decades=(1800, 1810, 1820)):
  """Texts of one letter each, which says the decade; the dates in disorder."""
  found = [
    (chr(97 + i) * (30 + j), first + j)
    for i, first in enumerate(decades)
    for j in range(per_decade)
  ]
  order = np.random.default_rng(0).permutation(len(found))
  texts, dates = zip(*[found[i] for i in order], strict=True)
  return list(texts), list(dates)


def _make(texts=None, dates=None, **kwargs):
  corpus = _corpus()
  defaults: dict = dict(period=10, length=8, batch_size=2)
  if 'num_tasks' in kwargs:
    del defaults['period']
  return dated_text(
    corpus[0] if texts is None else texts,
    corpus[1] if dates is None else dates,
    **defaults | kwargs,
  )


def _batch(stream, step):
  chunk = stream.chunk(step, 1)
  rows = {n: column[0] for n, column in stream.rows(chunk.indices).items()}
  return jax.jit(streams.make_batch, static_argnums=4)(
    rows, stream.tables, chunk.task_ids[0], chunk.weights[0], stream.prepare
  )


def _letters(windows):
  return {chr(token) for token in np.unique(windows) if token < 256}


def test_periods_come_in_the_order_of_time():
  stream = _make()
  assert stream.num_tasks == 3 and stream.num_classes == 257
  assert len(stream.boundaries) == 2
  for task, letter in enumerate('abc'):
    start = (0, *stream.boundaries)[task]
    batch = _batch(stream, start)
    assert _letters(batch['inputs']) == _letters(batch['labels']) == {letter}
    assert batch['task'].tolist() == [task] * 2
    assert batch['inputs'].dtype == batch['labels'].dtype == jnp.int32
    np.testing.assert_array_equal(
      batch['inputs'][:, 1:], batch['labels'][:, :-1]
    )
    rows = stream.task_batches(task, 1)[0].ravel()
    assert set(stream.source['task'][rows]) == {task}


def test_held_out_documents_are_in_no_training_window():
  # Every document is a letter of its own, and none ends within a window.
  texts = [chr(97 + i) * 7 for i in range(20)]
  stream = _make(texts, range(1900, 1920), length=8, test_fraction=0.3)
  assert stream.evaluation is not None
  train = [_letters(stream.source['labels'][p]) for p in stream.plan.pools]
  test = [
    _letters(stream.evaluation.source['labels'][rows][keep > 0])
    for rows, keep in zip(
      stream.evaluation.indices, stream.evaluation.weights, strict=True
    )
  ]
  for task in range(2):
    both = {chr(97 + 10 * task + i) for i in range(10)}
    assert train[task] | test[task] == both
    assert len(test[task]) == 3 and not train[task] & test[task]


def test_no_tests_on_request():
  assert _make(test_fraction=0).evaluation is None


def test_evaluation_may_be_bounded():
  full, few = _make().evaluation, _make(test_windows=3).evaluation
  assert full is not None and few is not None
  assert few.indices.shape == (3, 3) and few.weights.all()
  for task in range(3):
    rows = full.indices[task][full.weights[task] > 0]
    wanted = [rows[i * len(rows) // 3] for i in range(3)]
    assert few.indices[task].tolist() == wanted
  same = _make(test_windows=999).evaluation
  assert same is not None
  np.testing.assert_array_equal(same.indices, full.indices)


def test_windows_are_those_of_token_windows():
  texts, dates = _corpus()
  stream = _make(test_fraction=0)
  for task, period in enumerate(date_periods(dates, period=10)):
    wanted = streams.token_windows(
      [texts[i] for i in period.members], byte_tokenizer(), 8
    )
    rows = stream.plan.pools[task]
    for name, column in wanted.items():
      np.testing.assert_array_equal(stream.source[name][rows], column)


def test_order_of_documents_and_forms_of_dates_do_not_matter():
  texts, dates = _corpus()
  first = _make(texts, dates)
  other = np.random.default_rng(1).permutation(len(texts))
  forms = [
    str,
    int,
    lambda y: f'{y}-01-01',
    lambda y: datetime.date(y, 1, 1),
    lambda y: datetime.datetime(y, 1, 1, 13),
    lambda y: np.datetime64(str(y)),
  ]
  again = _make(
    [texts[i] for i in other],
    [forms[n % len(forms)](dates[i]) for n, i in enumerate(other)],
  )
  assert again.digest == first.digest


def test_seeds_and_the_digest():
  base = _make()
  assert base.digest == _make().digest
  assert base.digest != _make(seed=1).digest
  assert base.digest != _make(split_seed=1).digest
  assert base.digest != _make(length=9).digest
  np.testing.assert_array_equal(
    base.source['labels'], _make(seed=1).source['labels']
  )
  trained = streams.train_tokenizer(_corpus()[0], 260)
  smaller = _make(tokenizer=trained, length=2)
  assert smaller.num_classes == 260 and smaller.digest != base.digest


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 20), steps=st.integers(1, 6))
def test_resuming_is_remembering_the_step(start, steps):
  stream, fresh = _make(epochs=3), _make(epochs=3)
  whole = stream.chunk(0, start + steps)
  for name, column in fresh.chunk(start, steps)._asdict().items():
    np.testing.assert_array_equal(getattr(whole, name)[start:], column)


def test_goes_through_what_takes_a_stream():
  stream = _make(steps_per_task=5)
  mixed = streams.joint(stream)
  assert mixed.source is stream.source and mixed.boundaries == ()
  rows = mixed.chunk(0, 15).indices
  assert set(stream.source['task'][rows].ravel()) == {0, 1, 2}
  stack = streams.replicate([_make(steps_per_task=5, seed=s) for s in (0, 1)])
  assert stack.chunk(0, 2).indices.shape == (2, 2, 2)
  hidden = streams.hide_tasks(stream)
  assert hidden.boundaries == () and hidden.num_steps == 15
  assert _batch(hidden, 14)['task'].tolist() == [2, 2]
  old = streams.reoccurring(stream, law='recency', share=0.5)
  assert old.batch_spec['labels'].shape == (2, 8)


_DATES = st.lists(
  st.dates(datetime.date(1790, 1, 1), datetime.date(1830, 1, 1)),
  min_size=1,
  max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(dates=_DATES, count=st.integers(1, 6))
def test_equal_numbers(dates, count):
  count = min(count, len(dates))
  periods = date_periods(dates, num_tasks=count)
  sizes = [len(p.members) for p in periods]
  assert len(sizes) == count and max(sizes) - min(sizes) <= 1
  members = np.concatenate([p.members for p in periods])
  assert sorted(members) == list(range(len(dates)))
  assert [dates[i] for i in members] == sorted(dates)
  for period in periods:
    for i in period.members:
      assert period.start <= np.datetime64(dates[i]) < period.end


@settings(max_examples=60, deadline=None)
@given(
  dates=_DATES, period=st.sampled_from(['month', 'quarter', 'year', 1, 10])
)
def test_the_calendar(dates, period):
  key = {
    'month': lambda d: (d.year, d.month),
    'quarter': lambda d: (d.year, (d.month - 1) // 3),
    'year': lambda d: d.year,
    1: lambda d: d.year,
    10: lambda d: d.year // 10,
  }[period]
  try:
    periods = date_periods(dates, period=period)
  except ValueError as error:
    assert 'has no date' in str(error)
    assert len({key(d) for d in dates}) > 1
    return
  groups = {key(date) for date in dates}
  assert len(periods) == len(groups)
  for a, b in itertools.pairwise(periods):
    assert a.end == b.start
  for found, group in zip(periods, sorted(groups), strict=True):
    assert {key(dates[i]) for i in found.members} == {group}
    for i in found.members:
      assert found.start <= np.datetime64(dates[i]) < found.end


def test_decades_begin_as_they_are_named():
  (period,) = date_periods(['1861-12', 1869], period=10)
  assert (str(period.start), str(period.end)) == ('1860-01-01', '1870-01-01')


_BAD_DATES = {
  'date 1 is None; every document must have a date': [1800, None],
  "date 0 is ''; every document": ['', 1800],
  "date 0 is 'now'; every document": ['now', 1800],
  'date 1 is .*NaT.*; every document': [1800, np.datetime64('NaT', 'D')],
  "date 0 is '18x0'; it must be an ISO date": ['18x0', 1800],
  'the period from 1810-01-01 to 1820-01-01 has no date': [1800, 1825],
  'there are no dates': [],
}


@pytest.mark.parametrize('message', _BAD_DATES)
def test_bad_dates(message):
  with pytest.raises(ValueError, match=f'date_periods: {message}'):
    date_periods(_BAD_DATES[message], period=10)


@pytest.mark.parametrize(
  'message, kwargs',
  [
    ('date_periods: num_tasks is 2 and period 10', {'num_tasks': 2}),
    ('num_tasks is None and period None', {'period': None}),
    ("period is 'week'; it must be one of 'month'", {'period': 'week'}),
    ('period is 0', {'period': 0}),
    ('num_tasks is 99; there are only 18', {'num_tasks': 99, 'period': None}),
    ('there are 1 texts and 18 dates', {'texts': ['a']}),
    ('test_fraction is 1.5', {'test_fraction': 1.5}),
    ('period 0, from 1800-01-01 to 1810.*none is left', {'test_fraction': 1.0}),
    ('has 1 documents', {'num_tasks': 18, 'period': None}),
    ('batch_size is 99, but task 0 has only', {'batch_size': 99}),
    ('task 0 has no test rows', {'length': 60, 'batch_size': 1}),
    ('length is 0', {'length': 0}),
    ('test_windows is 0', {'test_windows': 0}),
    ('steps_per_task is 0', {'steps_per_task': 0}),
  ],
)
def test_impossible_streams(message, kwargs):
  texts, dates = _corpus()
  defaults = dict(period=10, length=8, batch_size=2)
  given_ = dict(texts=texts, dates=dates) | defaults | kwargs
  with pytest.raises(ValueError, match=message):
    dated_text(**given_)


def test_wrong_kinds():
  with pytest.raises(TypeError, match=r'date 0 is 18\.5; it must be a date'):
    date_periods([18.5], num_tasks=1)
  with pytest.raises(TypeError, match='dated_text: text 0 is bytes'):
    dated_text([b''], [1800], num_tasks=1, length=2, batch_size=1)  # pyright: ignore
