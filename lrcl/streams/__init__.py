"""Streams: plans, scenarios and data.

A stream is data and a plan: a pure function from a step to rows.
"""

from lrcl.streams._arm_stream import draw_tasks as draw_tasks
from lrcl.streams._arms import ArmSampler as ArmSampler
from lrcl.streams._arms import fixed_order_arms as fixed_order_arms
from lrcl.streams._arms import recency_arms as recency_arms
from lrcl.streams._arms import uniform_arms as uniform_arms
from lrcl.streams._arms import with_floor as with_floor
from lrcl.streams._arrays import digits as digits
from lrcl.streams._bandits import exp3_arms as exp3_arms
from lrcl.streams._bandits import td0_arms as td0_arms
from lrcl.streams._bandits import ucb_arms as ucb_arms
from lrcl.streams._blurry import blurry as blurry
from lrcl.streams._changed_inputs import permuted as permuted
from lrcl.streams._changed_inputs import rotated as rotated
from lrcl.streams._class_order import ClassDistances as ClassDistances
from lrcl.streams._class_order import class_distances as class_distances
from lrcl.streams._class_order import class_order_score as class_order_score
from lrcl.streams._class_order import design_class_order as design_class_order
from lrcl.streams._curriculum_plan import CurriculumPlan as CurriculumPlan
from lrcl.streams._curriculum_plan import (
  cyclical_curriculum as cyclical_curriculum,
)
from lrcl.streams._curriculum_plan import cyclical_sizes as cyclical_sizes
from lrcl.streams._dated_text import dated_text as dated_text
from lrcl.streams._few_shot import add_noise as add_noise
from lrcl.streams._few_shot import few_shot as few_shot
from lrcl.streams._few_shot import instance_test as instance_test
from lrcl.streams._few_shot import occlude as occlude
from lrcl.streams._hidden_tasks import hide_tasks as hide_tasks
from lrcl.streams._hierarchy import LabelTree as LabelTree
from lrcl.streams._hierarchy import hierarchical as hierarchical
from lrcl.streams._hierarchy import label_tree as label_tree
from lrcl.streams._items import ItemSource as ItemSource
from lrcl.streams._iterator import SeekableIterator as SeekableIterator
from lrcl.streams._iterator import from_iterator as from_iterator
from lrcl.streams._joint import joint as joint
from lrcl.streams._mixture_plan import MixturePlan as MixturePlan
from lrcl.streams._mixture_weights import AgeWeights as AgeWeights
from lrcl.streams._mixture_weights import ScheduledWeights as ScheduledWeights
from lrcl.streams._mixtures import mixture as mixture
from lrcl.streams._mixtures import reoccurring as reoccurring
from lrcl.streams._partition import dirichlet_partition as dirichlet_partition
from lrcl.streams._periods import Period as Period
from lrcl.streams._periods import date_periods as date_periods
from lrcl.streams._permutation import permute_indices as permute_indices
from lrcl.streams._phase_plan import PhasePlan as PhasePlan
from lrcl.streams._phase_samplers import CyclePools as CyclePools
from lrcl.streams._phase_samplers import DrawPools as DrawPools
from lrcl.streams._plan import ENDLESS as ENDLESS
from lrcl.streams._plan import Phase as Phase
from lrcl.streams._plan import Plan as Plan
from lrcl.streams._plan import PlanChunk as PlanChunk
from lrcl.streams._plan import make_plan as make_plan
from lrcl.streams._pool_sources import pool_sources as pool_sources
from lrcl.streams._repeats import RepeatedPlan as RepeatedPlan
from lrcl.streams._repeats import repeat_views as repeat_views
from lrcl.streams._replicate import replicate as replicate
from lrcl.streams._scole import scole as scole
from lrcl.streams._scole import unbalanced_weights as unbalanced_weights
from lrcl.streams._seekable import seekable as seekable
from lrcl.streams._shuffled_labels import shuffled_labels as shuffled_labels
from lrcl.streams._sources import RESIDENT_BYTES as RESIDENT_BYTES
from lrcl.streams._sources import HostSource as HostSource
from lrcl.streams._sources import is_resident as is_resident
from lrcl.streams._split import split as split
from lrcl.streams._stacked import StackedPlan as StackedPlan
from lrcl.streams._stream import Arms as Arms
from lrcl.streams._stream import EvalSet as EvalSet
from lrcl.streams._stream import Stream as Stream
from lrcl.streams._stream import make_batch as make_batch
from lrcl.streams._stream_plan import StreamPlan as StreamPlan
from lrcl.streams._tfds import from_tfds as from_tfds
from lrcl.streams._tokenizers import ByteTokenizer as ByteTokenizer
from lrcl.streams._tokenizers import PairTokenizer as PairTokenizer
from lrcl.streams._tokenizers import Tokenizer as Tokenizer
from lrcl.streams._tokenizers import byte_tokenizer as byte_tokenizer
from lrcl.streams._tokenizers import load_tokenizer as load_tokenizer
from lrcl.streams._tokenizers import train_tokenizer as train_tokenizer
from lrcl.streams._windows import token_windows as token_windows
