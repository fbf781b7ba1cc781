"""Networks in flax.linen, and the way from any flax module to LRCL."""

from lrcl.models._bridge import InitFn as InitFn
from lrcl.models._bridge import from_module as from_module
from lrcl.models._convolution import CNN as CNN
from lrcl.models._convolution import Conv as Conv
from lrcl.models._convolution import conv_same as conv_same
from lrcl.models._convolution import max_pool as max_pool
from lrcl.models._layers import standardize as standardize
from lrcl.models._masks import nap_mask as nap_mask
from lrcl.models._networks import MLP as MLP
from lrcl.models._nnx import from_nnx as from_nnx
from lrcl.models._transformer import GPT as GPT
from lrcl.models._transformer import Block as Block
