"""Networks in flax.linen, and the way from any flax module to LRCL."""

from lrcl.models._alignment import ClassGaussians as ClassGaussians
from lrcl.models._alignment import align_head as align_head
from lrcl.models._binary import BinaryDense as BinaryDense
from lrcl.models._binary import BinaryMLP as BinaryMLP
from lrcl.models._binary import binary_kl as binary_kl
from lrcl.models._binary import binary_preactivation as binary_preactivation
from lrcl.models._binary import sample_binary as sample_binary
from lrcl.models._bridge import InitFn as InitFn
from lrcl.models._bridge import from_module as from_module
from lrcl.models._class_means import NearestMeanState as NearestMeanState
from lrcl.models._class_means import StreamingLDAState as StreamingLDAState
from lrcl.models._class_means import nearest_class_mean as nearest_class_mean
from lrcl.models._class_means import streaming_lda as streaming_lda
from lrcl.models._convolution import CNN as CNN
from lrcl.models._convolution import Conv as Conv
from lrcl.models._convolution import conv_same as conv_same
from lrcl.models._convolution import max_pool as max_pool
from lrcl.models._efficientnet import LITE0 as LITE0
from lrcl.models._efficientnet import EfficientNetLite as EfficientNetLite
from lrcl.models._efficientnet import Stage as Stage
from lrcl.models._experts import route_experts as route_experts
from lrcl.models._gaussians import GaussiansState as GaussiansState
from lrcl.models._gaussians import StreamingGaussians as StreamingGaussians
from lrcl.models._gaussians import class_gaussians as class_gaussians
from lrcl.models._heads import CosineDotHead as CosineDotHead
from lrcl.models._heads import CosineHead as CosineHead
from lrcl.models._layers import standardize as standardize
from lrcl.models._masks import nap_mask as nap_mask
from lrcl.models._networks import MLP as MLP
from lrcl.models._nnx import from_nnx as from_nnx
from lrcl.models._reprogramming import inputs_with_task as inputs_with_task
from lrcl.models._reprogramming import reprogram as reprogram
from lrcl.models._reprogramming import (
  reprogrammed_labels as reprogrammed_labels,
)
from lrcl.models._reprogramming import reprogrammed_ratio as reprogrammed_ratio
from lrcl.models._ridge import RidgeState as RidgeState
from lrcl.models._ridge import analytic_ridge as analytic_ridge
from lrcl.models._streaming import StreamingHead as StreamingHead
from lrcl.models._streaming import grow_classes as grow_classes
from lrcl.models._transformer import GPT as GPT
from lrcl.models._transformer import Block as Block
from lrcl.models._units import (
  activations_from_module as activations_from_module,
)
from lrcl.models._units import unit_graph as unit_graph
