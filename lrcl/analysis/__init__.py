"""What a run says about runs that were not made."""

from lrcl.analysis._order_effects import (
  OrderEffects as OrderEffects,
)
from lrcl.analysis._order_effects import order_effects as order_effects
from lrcl.analysis._order_effects import retrain as retrain
