"""Forecasts: from a schedule to the loss that it will reach."""

from lrcl.forecasting._convex import ConvexBound as ConvexBound
from lrcl.forecasting._convex import ConvexLaw as ConvexLaw
from lrcl.forecasting._convex import convex_bound as convex_bound
