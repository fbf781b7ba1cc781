"""Losses per example: functions of logits and a batch."""

from lrcl.losses._classification import argmax as argmax
from lrcl.losses._classification import cross_entropy as cross_entropy
from lrcl.losses._distillation import distill_features as distill_features
from lrcl.losses._distillation import distill_predictions as distill_predictions
from lrcl.losses._local import local_cross_entropy as local_cross_entropy
from lrcl.losses._prototypes import (
  equilibrate_prototypes as equilibrate_prototypes,
)
from lrcl.losses._prototypical_feedback import (
  class_prototypes as class_prototypes,
)
from lrcl.losses._prototypical_feedback import (
  mixed_labels as mixed_labels,
)
from lrcl.losses._prototypical_feedback import (
  prototypical_feedback as prototypical_feedback,
)
from lrcl.losses._uer import uer as uer
from lrcl.losses._uer import uer_argmax as uer_argmax
from lrcl.losses._unified import TargetFn as TargetFn
from lrcl.losses._unified import bregman_divergence as bregman_divergence
from lrcl.losses._unified import half_square as half_square
from lrcl.losses._unified import label_target as label_target
from lrcl.losses._unified import log_partition as log_partition
from lrcl.losses._unified import teacher_target as teacher_target
from lrcl.losses._unified import unified_loss as unified_loss
from lrcl.losses._views import view_consistency as view_consistency
