"""What the step must not destroy: methods as gradient transformations."""

from lrcl.methods._adapters import accumulate as accumulate
from lrcl.methods._adapters import keep_extra_args as keep_extra_args
from lrcl.methods._anchor import AnchorState as AnchorState
from lrcl.methods._anchor import EwcState as EwcState
from lrcl.methods._anchor import add_ewc_penalty as add_ewc_penalty
from lrcl.methods._anchor import add_l2_anchor as add_l2_anchor
from lrcl.methods._averaging import ParamsAverageState as ParamsAverageState
from lrcl.methods._averaging import averaged_params as averaged_params
from lrcl.methods._averaging import params_ema as params_ema
from lrcl.methods._averaging import params_mean as params_mean
from lrcl.methods._averaging import start_from_average as start_from_average
from lrcl.methods._cdat import CdatState as CdatState
from lrcl.methods._cdat import scale_by_cdat as scale_by_cdat
from lrcl.methods._class_balanced import (
  class_balanced_policy as class_balanced_policy,
)
from lrcl.methods._consolidate import (
  ConsolidateAtTaskChangeState as ConsolidateAtTaskChangeState,
)
from lrcl.methods._consolidate import consolidate as consolidate
from lrcl.methods._consolidate import (
  consolidate_at_init as consolidate_at_init,
)
from lrcl.methods._consolidate import (
  consolidate_at_task_change as consolidate_at_task_change,
)
from lrcl.methods._continual_backprop import (
  ContinualBackpropState as ContinualBackpropState,
)
from lrcl.methods._continual_backprop import UnitStatistics as UnitStatistics
from lrcl.methods._continual_backprop import (
  continual_backprop as continual_backprop,
)
from lrcl.methods._distillation import (
  add_distillation_on_memory as add_distillation_on_memory,
)
from lrcl.methods._dynamic_ema import DynamicEmaState as DynamicEmaState
from lrcl.methods._dynamic_ema import dynamic_ema as dynamic_ema
from lrcl.methods._expert_bank import ExpertsState as ExpertsState
from lrcl.methods._experts import with_experts as with_experts
from lrcl.methods._fedhyper import FedHyperState as FedHyperState
from lrcl.methods._fedhyper import (
  scale_by_fedhyper_global as scale_by_fedhyper_global,
)
from lrcl.methods._fedhyper import (
  track_fedhyper_client_rate as track_fedhyper_client_rate,
)
from lrcl.methods._fedhyper_client import (
  FedHyperClientState as FedHyperClientState,
)
from lrcl.methods._fedhyper_client import (
  scale_by_fedhyper_client as scale_by_fedhyper_client,
)
from lrcl.methods._fisher import fisher_diagonal as fisher_diagonal
from lrcl.methods._gem import TaskMemoriesState as TaskMemoriesState
from lrcl.methods._gem import project_on_memories as project_on_memories
from lrcl.methods._gradient_diversity import gss_policy as gss_policy
from lrcl.methods._gradient_projection import (
  project_on_memory as project_on_memory,
)
from lrcl.methods._groups import scale_groups as scale_groups
from lrcl.methods._hypergradient import (
  HypergradientState as HypergradientState,
)
from lrcl.methods._hypergradient import (
  scale_by_hypergradient as scale_by_hypergradient,
)
from lrcl.methods._importance import importance_policy as importance_policy
from lrcl.methods._label_paths import pseudo_labels as pseudo_labels
from lrcl.methods._memory import MemoryState as MemoryState
from lrcl.methods._memory import WithMemoryState as WithMemoryState
from lrcl.methods._memory import with_memory as with_memory
from lrcl.methods._metaplastic import MetaplasticState as MetaplasticState
from lrcl.methods._metaplastic import metaplastic_kl as metaplastic_kl
from lrcl.methods._moving_fisher import MovingFisherState as MovingFisherState
from lrcl.methods._moving_fisher import ewc_plus_plus as ewc_plus_plus
from lrcl.methods._mup import mup_init as mup_init
from lrcl.methods._mup import mup_multipliers as mup_multipliers
from lrcl.methods._mup import scale_by_mup as scale_by_mup
from lrcl.methods._orthogonal import OrthogonalState as OrthogonalState
from lrcl.methods._orthogonal import orthogonal_gradient as orthogonal_gradient
from lrcl.methods._output_directions import (
  output_directions as output_directions,
)
from lrcl.methods._output_importance import mas_importance as mas_importance
from lrcl.methods._passes import Passes as Passes
from lrcl.methods._passes import count_passes as count_passes
from lrcl.methods._passes import mark_pass as mark_pass
from lrcl.methods._policy import MemoryOffer as MemoryOffer
from lrcl.methods._policy import MemoryPolicy as MemoryPolicy
from lrcl.methods._rate import applied_rate as applied_rate
from lrcl.methods._rate import (
  scale_by_schedule_value as scale_by_schedule_value,
)
from lrcl.methods._redo import RedoState as RedoState
from lrcl.methods._redo import redo as redo
from lrcl.methods._refresh import RefreshState as RefreshState
from lrcl.methods._refresh import refresh as refresh
from lrcl.methods._relabel import RelabelMemoryState as RelabelMemoryState
from lrcl.methods._relabel import relabel_memory as relabel_memory
from lrcl.methods._replay import add_memory_gradient as add_memory_gradient
from lrcl.methods._replay_rate import ReplayRateState as ReplayRateState
from lrcl.methods._replay_rate import (
  scale_by_replay_rate as scale_by_replay_rate,
)
from lrcl.methods._reset import ResetOnTaskState as ResetOnTaskState
from lrcl.methods._reset import reset_on_task as reset_on_task
from lrcl.methods._retrieval import MapMemoryState as MapMemoryState
from lrcl.methods._retrieval import map_memory as map_memory
from lrcl.methods._retrieval import retrieve_interfered as retrieve_interfered
from lrcl.methods._riemannian_walk import (
  RiemannianWalkState as RiemannianWalkState,
)
from lrcl.methods._riemannian_walk import riemannian_walk as riemannian_walk
from lrcl.methods._scale_projection import (
  ProjectScalesState as ProjectScalesState,
)
from lrcl.methods._scale_projection import project_scales as project_scales
from lrcl.methods._selector import SelectorState as SelectorState
from lrcl.methods._selector import expert_params as expert_params
from lrcl.methods._selector import with_selector as with_selector
from lrcl.methods._shift import RateGateState as RateGateState
from lrcl.methods._shift import ShiftDetector as ShiftDetector
from lrcl.methods._shift import WindowShiftState as WindowShiftState
from lrcl.methods._shift import restart_on_rate as restart_on_rate
from lrcl.methods._shift import window_shift as window_shift
from lrcl.methods._shift_sums import MomentsShiftState as MomentsShiftState
from lrcl.methods._shift_sums import cumulative_sum as cumulative_sum
from lrcl.methods._shift_sums import page_hinkley as page_hinkley
from lrcl.methods._shrink_and_perturb import (
  ShrinkAndPerturbState as ShrinkAndPerturbState,
)
from lrcl.methods._shrink_and_perturb import (
  shrink_and_perturb as shrink_and_perturb,
)
from lrcl.methods._sparse_masks import sparse_densities as sparse_densities
from lrcl.methods._sparse_task import DropAndGrowState as DropAndGrowState
from lrcl.methods._sparsity import drop_and_grow as drop_and_grow
from lrcl.methods._sparsity import params_of_task as params_of_task
from lrcl.methods._synaptic import SynapticState as SynapticState
from lrcl.methods._synaptic import (
  synaptic_intelligence as synaptic_intelligence,
)
from lrcl.methods._task_experts import with_task_experts as with_task_experts
from lrcl.methods._task_rows import update_task_rows as update_task_rows
from lrcl.methods._weight_projection import NormState as NormState
from lrcl.methods._weight_projection import (
  normalize_and_project as normalize_and_project,
)
from lrcl.methods._window import ParamsWindowState as ParamsWindowState
from lrcl.methods._window import merge_weights as merge_weights
from lrcl.methods._window import params_window as params_window
from lrcl.methods._with_penalty import WithPenaltyState as WithPenaltyState
from lrcl.methods._with_penalty import with_ewc_penalty as with_ewc_penalty
from lrcl.methods._with_penalty import with_l2_anchor as with_l2_anchor
