"""What a report refuses: classes, or rows, that were tuned on."""

from collections.abc import Mapping
import hashlib

import jax
import numpy as np

from lrcl import streams
from lrcl.protocols._halves import Half

_SHARED = 0.01
"""Data sets hold a few rows twice, under two classes at times; more than this
share of common rows is no accident."""


def refuse_classes(tuned: Half, reported: Half) -> None:
  """Refuses a half with classes of the one that was tuned on.

  Raises:
    ValueError: names the classes.
  """
  both = sorted(set(tuned.classes) & set(reported.classes))
  if tuned.data == reported.data and both:
    raise ValueError(
      f'report_contenders: classes {both} were tuned on; report on classes '
      'that were not, such as the other half of halve_classes.'
    )


def refuse_rows(tuned: frozenset[bytes], reported: frozenset[bytes]) -> None:
  """Refuses streams that are made of the rows that were tuned on.

  Raises:
    ValueError: says how many.
  """
  both = len(tuned & reported)
  if both > _SHARED * len(reported):
    raise ValueError(
      f'report_contenders: {both} of the {len(reported)} rows were tuned on; '
      'make_stream must take its rows from the half that it is given.'
    )


def digests(stream: streams.Stream) -> frozenset[bytes]:
  """A digest of the inputs of each row that a stream trains or tests on.

  Raises:
    ValueError: if the stream is not in memory or has no test sets.
  """
  sets = stream.evaluation
  sources = (stream.source, sets.source if sets else None)
  found: set[bytes] = set()
  for source in sources:
    if not isinstance(source, Mapping):
      raise ValueError(
        'tune_contenders: the stream must be in memory and have test sets.'
      )
    rows = np.ascontiguousarray(jax.device_get(source['inputs']))
    found.update(hashlib.blake2b(row.tobytes()).digest() for row in rows)
  return frozenset(found)
