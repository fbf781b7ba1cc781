"""Forecasts: from a schedule to the loss that it will reach."""

from lrcl.forecasting._annealing import AnnealingAreas as AnnealingAreas
from lrcl.forecasting._annealing import AnnealingLaw as AnnealingLaw
from lrcl.forecasting._annealing import annealing_areas as annealing_areas
from lrcl.forecasting._continual import (
  ContinualAnnealingLaw as ContinualAnnealingLaw,
)
from lrcl.forecasting._convex import ConvexBound as ConvexBound
from lrcl.forecasting._convex import ConvexLaw as ConvexLaw
from lrcl.forecasting._convex import convex_bound as convex_bound
from lrcl.forecasting._curves import Curve as Curve
from lrcl.forecasting._decide import DecayDecision as DecayDecision
from lrcl.forecasting._decide import should_decay_now as should_decay_now
from lrcl.forecasting._ensemble import LawEnsemble as LawEnsemble
from lrcl.forecasting._ensemble import bootstrap_laws as bootstrap_laws
from lrcl.forecasting._ensemble import leave_curves_out as leave_curves_out
from lrcl.forecasting._fit_annealing import (
  fit_annealing_law as fit_annealing_law,
)
from lrcl.forecasting._fit_continual import (
  fit_continual_annealing_law as fit_continual_annealing_law,
)
from lrcl.forecasting._fit_multi_power import (
  fit_multi_power_law as fit_multi_power_law,
)
from lrcl.forecasting._from_records import (
  curves_from_records as curves_from_records,
)
from lrcl.forecasting._multi_power import MultiPowerLaw as MultiPowerLaw
from lrcl.forecasting._outlook import DecayOutlook as DecayOutlook
from lrcl.forecasting._plan import BranchPlan as BranchPlan
from lrcl.forecasting._plan import PlannedBranch as PlannedBranch
from lrcl.forecasting._plan import plan_branches as plan_branches
from lrcl.forecasting._read_curve import read_curve as read_curve
from lrcl.forecasting._scores import Scores as Scores
from lrcl.forecasting._scores import score as score
from lrcl.forecasting._search import OptimizedSchedule as OptimizedSchedule
from lrcl.forecasting._search import optimize_schedule as optimize_schedule
