"""Losses per example: functions of logits and a batch."""

from lrcl.losses._classification import argmax as argmax
from lrcl.losses._classification import cross_entropy as cross_entropy
from lrcl.losses._local import local_cross_entropy as local_cross_entropy
