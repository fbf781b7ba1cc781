"""Dates, and the periods that they fall into."""

from collections.abc import Sequence
import datetime
from typing import Any, NamedTuple

import numpy as np

from lrcl.base import check_steps

_MONTHS = {'month': 1, 'quarter': 3, 'year': 12}


class Period(NamedTuple):
  """A stretch of time and what is dated in it.

  Attributes:
    start: the first day of the period; where periods hold equal numbers, the
      first date in it.
    end: the first day after it; where periods hold equal numbers, the day after
      the last date in it.
    members: int64, which of the dates lie in it, the earliest first.
  """

  start: np.datetime64
  end: np.datetime64
  members: np.ndarray


def date_periods(
  dates: Sequence[Any],
  *,
  num_tasks: int | None = None,
  period: str | int | None = None,
) -> tuple[Period, ...]:
  """Sorts dates into periods, by the calendar or in equal numbers.

  Give one of the two:

  * `num_tasks`: as many periods with equally many dates each; where they do
    not divide, the first ones have one more. Equal dates may be parted.
  * `period`: `'month'`, `'quarter'`, `'year'` or a number of years; years are
    counted from the year 0, so 10 gives the decades.

  Args:
    dates: in any order, each a `datetime.date` or `datetime64`, an ISO string
      (`'1861'`, `'1861-12'`, `'1861-12-03'`) or a whole number, the year. What
      a date leaves open is its first month or day. Equal dates keep the order
      in which they are given.
    num_tasks: how many periods.
    period: how long a period is.

  Returns:
    The periods, the earliest first.

  Raises:
    TypeError: if something is no date.
    ValueError: if neither or both are given, there are no dates, one is missing
      or cannot be read, there are fewer dates than periods, or no date lies in
      a period between the first and the last.

  Example:
    >>> periods = date_periods([1815, 1801, '1809-03-04'], period=10)
    >>> [(str(p.start), p.members.tolist()) for p in periods]
    [('1800-01-01', [1, 2]), ('1810-01-01', [0])]
  """
  where = 'date_periods'
  if (num_tasks is None) == (period is None):
    raise ValueError(
      f'{where}: num_tasks is {num_tasks} and period {period!r}; give one.'
    )
  days: Any = np.array(
    [_day(where, i, date) for i, date in enumerate(dates)], 'M8'
  )
  if not len(days):
    raise ValueError(f'{where}: there are no dates.')
  order = np.argsort(days, kind='stable')
  if num_tasks is not None:
    return _equal_numbers(where, days, order, num_tasks)
  return _calendar(where, days, order, _in_months(where, period))


def _equal_numbers(
  where: str, days: Any, order: np.ndarray, num_tasks: int
) -> tuple[Period, ...]:
  num_tasks = check_steps(where, 'num_tasks', num_tasks, 1)
  if num_tasks > len(days):
    raise ValueError(
      f'{where}: num_tasks is {num_tasks}; there are only {len(days)} dates.'
    )
  parts = np.array_split(order, num_tasks)
  day = np.timedelta64(1, 'D')
  return tuple(Period(days[p[0]], days[p[-1]] + day, p) for p in parts)


def _calendar(
  where: str, days: Any, order: np.ndarray, months: int
) -> tuple[Period, ...]:
  # Months are counted from the year 0, so that decades begin as they are named.
  since_zero = days.astype('M8[M]').astype(np.int64) + 12 * 1970
  numbers = since_zero // months
  zero: Any = np.datetime64('0000-01', 'M')
  length = np.timedelta64(months, 'M')
  first = lambda number: (zero + int(number) * length).astype('M8[D]')
  periods = []
  for number in range(numbers.min(), numbers.max() + 1):
    members = order[numbers[order] == number]
    if not len(members):
      raise ValueError(
        f'{where}: the period from {first(number)} to {first(number + 1)} has '
        'no date; take longer periods, or num_tasks.'
      )
    periods.append(Period(first(number), first(number + 1), members))
  return tuple(periods)


def _in_months(where: str, period: Any) -> int:
  if isinstance(period, str):
    if period not in _MONTHS:
      raise ValueError(
        f'{where}: period is {period!r}; it must be one of '
        f'{", ".join(map(repr, _MONTHS))}, or a number of years.'
      )
    return _MONTHS[period]
  return 12 * check_steps(where, 'period', period, 1)


def _day(where: str, number: int, date: Any) -> np.datetime64:
  """One date as a day."""
  named = f'{where}: date {number} is {date!r}'
  if isinstance(date, int | np.integer) and not isinstance(date, bool):
    date = f'{date:04d}'
  elif isinstance(date, datetime.datetime):
    date = date.date()  # the day on the clock that wrote it
  elif date is not None and not isinstance(
    date, str | datetime.date | np.datetime64
  ):
    raise TypeError(f'{named}; it must be a date, an ISO string or a year.')
  if isinstance(date, str) and not date[:1].isdigit():
    date = None  # numpy would read 'now'
  try:
    day: Any = np.array(date, 'M8[D]')[()]
  except ValueError as error:
    raise ValueError(f'{named}; it must be an ISO date or a year.') from error
  if np.isnat(day):
    raise ValueError(f'{named}; every document must have a date.')
  return day
