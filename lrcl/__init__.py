"""Learning-rate schedules for training that does not end, in JAX.

`schedules` say how large the step is, `methods` what it must not destroy,
`training` where a run forks, `metrics` and `reports` what came of it, and
`forecasting` what will. Each can be imported alone.

Example:
  >>> import optax
  >>> import lrcl
  >>> trunk = lrcl.infinite_schedule(3e-4, 1.5e-4, 1000, 50_000)
  >>> tx = optax.chain(
  ...   optax.scale_by_adam(),
  ...   lrcl.scale_by_schedule_value(trunk),
  ...   lrcl.normalize_and_project())
"""

from lrcl import analysis as analysis
from lrcl import forecasting as forecasting
from lrcl import losses as losses
from lrcl import methods as methods
from lrcl import metrics as metrics
from lrcl import models as models
from lrcl import protocols as protocols
from lrcl import reports as reports
from lrcl import schedules as schedules
from lrcl import streams as streams
from lrcl import training as training
from lrcl.methods import add_ewc_penalty as add_ewc_penalty
from lrcl.methods import add_memory_gradient as add_memory_gradient
from lrcl.methods import consolidate as consolidate
from lrcl.methods import normalize_and_project as normalize_and_project
from lrcl.methods import scale_by_schedule_value as scale_by_schedule_value
from lrcl.methods import with_memory as with_memory
from lrcl.schedules import decay_branch as decay_branch
from lrcl.schedules import infinite_schedule as infinite_schedule
from lrcl.schedules import wsd_s_schedule as wsd_s_schedule
from lrcl.schedules import wsd_schedule as wsd_schedule
from lrcl.training import Branches as Branches
from lrcl.training import Learner as Learner
from lrcl.training import train_stream as train_stream

__version__ = '0.1.0.dev0'
