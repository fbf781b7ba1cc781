"""Forecasts: from a schedule to the loss that it will reach."""

from lrcl.forecasting._annealing import AnnealingAreas as AnnealingAreas
from lrcl.forecasting._annealing import AnnealingLaw as AnnealingLaw
from lrcl.forecasting._annealing import annealing_areas as annealing_areas
from lrcl.forecasting._convex import ConvexBound as ConvexBound
from lrcl.forecasting._convex import ConvexLaw as ConvexLaw
from lrcl.forecasting._convex import convex_bound as convex_bound
from lrcl.forecasting._curves import Curve as Curve
from lrcl.forecasting._multi_power import MultiPowerLaw as MultiPowerLaw
from lrcl.forecasting._search import OptimizedSchedule as OptimizedSchedule
from lrcl.forecasting._search import optimize_schedule as optimize_schedule
