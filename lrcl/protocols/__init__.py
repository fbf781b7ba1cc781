"""Tuning kept apart from reporting, and contenders side by side."""

from lrcl.protocols._halves import Half as Half
from lrcl.protocols._halves import Halves as Halves
from lrcl.protocols._halves import halve_classes as halve_classes
from lrcl.protocols._statistics import Comparison as Comparison
from lrcl.protocols._statistics import Ranking as Ranking
from lrcl.protocols._statistics import compare as compare
from lrcl.protocols._statistics import format_ranking as format_ranking
from lrcl.protocols._statistics import rank_contenders as rank_contenders
from lrcl.protocols._statistics import rank_correlation as rank_correlation
