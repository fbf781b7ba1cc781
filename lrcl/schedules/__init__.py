"""Learning-rate schedules: functions of the step, and of the task.

Every schedule is an `optax.Schedule`, or an `optax.schedules.StatefulSchedule`
where it reacts to more than the step. Any scalar of training may have one.
"""

from lrcl.schedules._branch import decay_branch as decay_branch
from lrcl.schedules._build import build_schedule as build_schedule
from lrcl.schedules._build import describe_schedule as describe_schedule
from lrcl.schedules._infinite import infinite_schedule as infinite_schedule
from lrcl.schedules._profiles import half_life_profile as half_life_profile
from lrcl.schedules._profiles import power_profile as power_profile
from lrcl.schedules._rewarming import (
  repeated_cosine_schedule as repeated_cosine_schedule,
)
from lrcl.schedules._stable import wsd_s_schedule as wsd_s_schedule
from lrcl.schedules._stable import wsd_schedule as wsd_schedule
from lrcl.schedules._task import TaskScheduleState as TaskScheduleState
from lrcl.schedules._task import by_task as by_task
from lrcl.schedules._task import per_task as per_task
