"""Learning-rate schedules: functions of the step, and of the task.

Every schedule is an `optax.Schedule`, or an `optax.schedules.StatefulSchedule`
where it reacts to more than the step. Any scalar of training may have one.
"""

from lrcl.schedules._branch import decay_branch as decay_branch
from lrcl.schedules._budgeted import rex_schedule as rex_schedule
from lrcl.schedules._budgeted import sampled as sampled
from lrcl.schedules._budgeted import uba_schedule as uba_schedule
from lrcl.schedules._budgeted_profiles import rex_profile as rex_profile
from lrcl.schedules._budgeted_profiles import uba_profile as uba_profile
from lrcl.schedules._build import build_schedule as build_schedule
from lrcl.schedules._build import describe_schedule as describe_schedule
from lrcl.schedules._families import half_life_profile as half_life_profile
from lrcl.schedules._families import (
  inverse_sqrt_profile as inverse_sqrt_profile,
)
from lrcl.schedules._families import power_profile as power_profile
from lrcl.schedules._feedback import PlateauState as PlateauState
from lrcl.schedules._feedback import plateau_per_task as plateau_per_task
from lrcl.schedules._greedy import GreedyState as GreedyState
from lrcl.schedules._greedy import greedy as greedy
from lrcl.schedules._infinite import infinite_schedule as infinite_schedule
from lrcl.schedules._infinite_fractions import (
  infinite_run_schedule as infinite_run_schedule,
)
from lrcl.schedules._infinite_fractions import (
  infinite_task_schedule as infinite_task_schedule,
)
from lrcl.schedules._inverse_sqrt import (
  inverse_sqrt_schedule as inverse_sqrt_schedule,
)
from lrcl.schedules._inverse_sqrt import noam_schedule as noam_schedule
from lrcl.schedules._knots import (
  piecewise_linear_schedule as piecewise_linear_schedule,
)
from lrcl.schedules._mastery import MasteryState as MasteryState
from lrcl.schedules._mastery import mastery_staircase as mastery_staircase
from lrcl.schedules._power import power_schedule as power_schedule
from lrcl.schedules._progress import DiscountState as DiscountState
from lrcl.schedules._progress import leading_progress as leading_progress
from lrcl.schedules._progress import progress_discount as progress_discount
from lrcl.schedules._refined import refined_schedule as refined_schedule
from lrcl.schedules._rewarming import (
  repeated_cosine_schedule as repeated_cosine_schedule,
)
from lrcl.schedules._rewarming import rewarmed_schedule as rewarmed_schedule
from lrcl.schedules._scalars import (
  cyclical_fraction_schedule as cyclical_fraction_schedule,
)
from lrcl.schedules._scalars import (
  geometric_budget_schedule as geometric_budget_schedule,
)
from lrcl.schedules._scalars import horizon_features as horizon_features
from lrcl.schedules._scalars import (
  token_temperature_schedule as token_temperature_schedule,
)
from lrcl.schedules._stable import wsd_s_schedule as wsd_s_schedule
from lrcl.schedules._stable import wsd_schedule as wsd_schedule
from lrcl.schedules._task import TaskScheduleState as TaskScheduleState
from lrcl.schedules._task import by_task as by_task
from lrcl.schedules._task import per_task as per_task
