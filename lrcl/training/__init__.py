"""The loop that trains on a stream, and the branches that it leaves."""

from lrcl.training._auto_lrs import AutoLrs as AutoLrs
from lrcl.training._auto_lrs import auto_lrs as auto_lrs
from lrcl.training._auto_lrs_forecast import fit_exponential as fit_exponential
from lrcl.training._auto_lrs_forecast import forecast as forecast
from lrcl.training._auto_lrs_proposals import propose_rate as propose_rate
from lrcl.training._branches import Branches as Branches
from lrcl.training._branches import Restored as Restored
from lrcl.training._checkpoints import CheckpointError as CheckpointError
from lrcl.training._checkpoints import NoCheckpoint as NoCheckpoint
from lrcl.training._compose import compose as compose
from lrcl.training._cost import StepLedger as StepLedger
from lrcl.training._cost import step_cost as step_cost
from lrcl.training._cost import step_ledger as step_ledger
from lrcl.training._evaluate import make_evaluator as make_evaluator
from lrcl.training._federated import ClientTx as ClientTx
from lrcl.training._federated import FederatedAlgorithm as FederatedAlgorithm
from lrcl.training._federated import FederatedState as FederatedState
from lrcl.training._federated import RoundInfo as RoundInfo
from lrcl.training._federated import federated_averaging as federated_averaging
from lrcl.training._federated_data import FederatedData as FederatedData
from lrcl.training._federated_data import federated_data as federated_data
from lrcl.training._fine_tune import fine_tune_on_memory as fine_tune_on_memory
from lrcl.training._fine_tune_stages import FineTuning as FineTuning
from lrcl.training._fine_tune_stages import (
  train_and_fine_tune as train_and_fine_tune,
)
from lrcl.training._interrupt import Interrupted as Interrupted
from lrcl.training._lineage import Lineage as Lineage
from lrcl.training._loop import train_stream as train_stream
from lrcl.training._records import RecordFile as RecordFile
from lrcl.training._records import digest_config as digest_config
from lrcl.training._records import versions as versions
from lrcl.training._sharding import data_mesh as data_mesh
from lrcl.training._state import Learner as Learner
from lrcl.training._state import TrainState as TrainState
from lrcl.training._state import create_state as create_state
from lrcl.training._state import create_states as create_states
from lrcl.training._step import StepInfo as StepInfo
from lrcl.training._step import make_train_step as make_train_step
from lrcl.training._step import (
  make_train_step_from_loss as make_train_step_from_loss,
)
from lrcl.training._trainability import Trainability as Trainability
from lrcl.training._trainability import trainability as trainability
