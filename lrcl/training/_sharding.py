"""Meshes of devices, and where a run's arrays live on them."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
  """A one-dimensional mesh over all devices, its axis named `data`.

  The axis is of type Auto: the compiler places the collectives, and no
  transformation has to know of them.

  Args:
    devices: the devices; all of them by default.

  Example:
    >>> data_mesh(jax.devices()[:1]).axis_names
    ('data',)
  """
  count = jax.device_count() if devices is None else len(devices)
  types = (AxisType.Auto,)
  return jax.make_mesh((count,), ('data',), axis_types=types, devices=devices)
