"""Reports: from records, and records alone, to tables, a page and a picture."""

from lrcl.reports._draw_run import draw_branched_run as draw_branched_run
from lrcl.reports._findings import findings as findings
from lrcl.reports._losses import format_losses as format_losses
from lrcl.reports._page import write_report as write_report
from lrcl.reports._records import read_records as read_records
from lrcl.reports._series import Series as Series
from lrcl.reports._series import accuracy_matrix as accuracy_matrix
from lrcl.reports._series import continual_series as continual_series
from lrcl.reports._series import decayed_matrix as decayed_matrix
from lrcl.reports._series import loss_matrix as loss_matrix
from lrcl.reports._summary import Estimate as Estimate
from lrcl.reports._summary import summarize as summarize
from lrcl.reports._table import format_table as format_table
from lrcl.reports._table import print_table as print_table
from lrcl.reports._traces import Trace as Trace
from lrcl.reports._traces import branch_trace as branch_trace
from lrcl.reports._tree import format_tree as format_tree
