"""Metrics of continual learning: pure functions of accuracies and weights."""

from lrcl.metrics._classes import area_under_accuracy as area_under_accuracy
from lrcl.metrics._classes import class_forgetting as class_forgetting
from lrcl.metrics._classes import intransigence as intransigence
from lrcl.metrics._classes import learning_curve_area as learning_curve_area
from lrcl.metrics._continual import StabilityGap as StabilityGap
from lrcl.metrics._continual import min_accuracy as min_accuracy
from lrcl.metrics._continual import stability_gap as stability_gap
from lrcl.metrics._continual import worst_case_accuracy as worst_case_accuracy
from lrcl.metrics._effective_rate import (
  effective_learning_rate as effective_learning_rate,
)
from lrcl.metrics._interval import mean_interval as mean_interval
from lrcl.metrics._matrix import average_accuracy as average_accuracy
from lrcl.metrics._matrix import (
  average_incremental_accuracy as average_incremental_accuracy,
)
from lrcl.metrics._matrix import backward_transfer as backward_transfer
from lrcl.metrics._matrix import forgetting as forgetting
from lrcl.metrics._matrix import forward_transfer as forward_transfer
from lrcl.metrics._matrix import learning_accuracy as learning_accuracy
from lrcl.metrics._plasticity import active_fraction as active_fraction
from lrcl.metrics._plasticity import dormant_fraction as dormant_fraction
from lrcl.metrics._plasticity import (
  update_to_weight_ratio as update_to_weight_ratio,
)
from lrcl.metrics._plasticity import weight_norm as weight_norm
from lrcl.metrics._rank import effective_rank as effective_rank
from lrcl.metrics._rank import feature_rank as feature_rank
from lrcl.metrics._rank import stable_rank as stable_rank
from lrcl.metrics._running import RunningChange as RunningChange
from lrcl.metrics._running import RunningMean as RunningMean
from lrcl.metrics._running import RunningMinimum as RunningMinimum
from lrcl.metrics._running_gap import RunningGap as RunningGap
from lrcl.metrics._running_recovery import RunningRecovery as RunningRecovery
from lrcl.metrics._running_series import RunningArea as RunningArea
from lrcl.metrics._running_series import RunningClasses as RunningClasses
from lrcl.metrics._running_series import RunningMatrix as RunningMatrix
from lrcl.metrics._sensitivity import (
  parameter_sensitivity as parameter_sensitivity,
)
from lrcl.metrics._sensitivity import sensitive_mask as sensitive_mask
from lrcl.metrics._sensitivity import sensitivity_jumps as sensitivity_jumps
from lrcl.metrics._windows import windowed_forgetting as windowed_forgetting
from lrcl.metrics._windows import windowed_plasticity as windowed_plasticity
