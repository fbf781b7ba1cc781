"""Losses per example: functions of logits and a batch."""

from lrcl.losses._classification import argmax as argmax
from lrcl.losses._classification import cross_entropy as cross_entropy
