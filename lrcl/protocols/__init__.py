"""Tuning kept apart from reporting, and contenders side by side."""

from lrcl.protocols._halves import Half as Half
from lrcl.protocols._halves import Halves as Halves
from lrcl.protocols._halves import halve_classes as halve_classes
from lrcl.protocols._settings import Axes as Axes
from lrcl.protocols._settings import Measure as Measure
from lrcl.protocols._settings import Setting as Setting
from lrcl.protocols._settings import Tuned as Tuned
from lrcl.protocols._settings import choose as choose
from lrcl.protocols._settings import format_setting as format_setting
from lrcl.protocols._settings import geometric as geometric
from lrcl.protocols._settings import grid as grid
from lrcl.protocols._settings import sweep as sweep
from lrcl.protocols._settings import tune as tune
from lrcl.protocols._statistics import Comparison as Comparison
from lrcl.protocols._statistics import Ranking as Ranking
from lrcl.protocols._statistics import compare as compare
from lrcl.protocols._statistics import format_ranking as format_ranking
from lrcl.protocols._statistics import rank_contenders as rank_contenders
from lrcl.protocols._statistics import rank_correlation as rank_correlation
from lrcl.protocols._trials import Found as Found
from lrcl.protocols._trials import MakeLearner as MakeLearner
from lrcl.protocols._trials import Read as Read
from lrcl.protocols._trials import Trials as Trials
