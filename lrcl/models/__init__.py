"""Networks in flax.linen, and the way from any flax module to LRCL."""

from lrcl.models._bridge import InitFn as InitFn
from lrcl.models._bridge import from_module as from_module
from lrcl.models._networks import MLP as MLP
