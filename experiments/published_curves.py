"""The nine curves of the multi-power law's paper: schedules and parameters.

The curves themselves are on https://github.com/thu-yao-01-luo/MultiPowerLaw
(MIT), as CSV files; --curves=DIR or $LRCL_CURVES names a directory that holds
them as 25M/cosine_24000.csv, 100M/... and so on, with columns step, lr, loss.
"""

import optax

from lrcl import forecasting, schedules

FIT = ('cosine_24000', 'constant_24000', 'wsdcon_9')
"""What the authors fit on."""

PREDICT = (
  'constant_72000',
  'cosine_72000',
  'wsd_20000_24000',
  'wsdld_20000_24000',
  'wsdcon_3',
  'wsdcon_18',
)
"""What they forecast."""

LAWS = {
  '25M': forecasting.MultiPowerLaw(
    3.04045406, 0.52468604, 0.50786857,
    363.78751622, 2.06560812, 0.58279013, 0.64142257,
  ),
  '100M': forecasting.MultiPowerLaw(
    2.6514477, 0.60115152, 0.45295811,
    437.9464276, 2.13245612, 0.59785199, 0.65523644,
  ),
  '400M': forecasting.MultiPowerLaw(
    2.37474466, 0.65421216, 0.42878731,
    523.42464371, 2.02462735, 0.59350493, 0.63472457,
  ),
}  # fmt: skip
"""The published parameters, by the size of the model."""

WARMUP_STEPS = 2160
_PEAK, _END = 3e-4, 3e-5


def schedule_of(name: str) -> optax.Schedule:
  """The schedule of a curve, by its name.

  The authors' warm-up is at its peak in its last step, a step earlier than
  LRCL's; hence the 1.

  Raises:
    ValueError: if the name is not one of theirs.
  """
  kind, *numbers = name.split('_')
  rise, ends = WARMUP_STEPS - 1, [int(number) for number in numbers]
  if name not in (*FIT, *PREDICT):
    raise ValueError(
      f'{name} is no published curve; they are {", ".join((*FIT, *PREDICT))}.'
    )
  if kind == 'wsdcon':
    return optax.join_schedules(
      [schedules.wsd_schedule(_PEAK, rise, 1, 1, end_value=_PEAK),
       optax.constant_schedule(ends[0] * 1e-5)], [8000],
    )  # fmt: skip
  if kind == 'constant':
    return schedules.wsd_schedule(_PEAK, rise, 1, 1, end_value=_PEAK)
  first = ends[0] if kind.startswith('wsd') else WARMUP_STEPS
  decay = {'cosine': 'cosine', 'wsd': 'exponential', 'wsdld': 'linear'}[kind]
  return schedules.wsd_schedule(
    _PEAK, rise, first - rise, ends[-1] - first, end_value=_END, decay=decay
  )
