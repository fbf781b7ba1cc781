"""What is compared, on what, and the compiled programs of a phase."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from lrcl import streams
from lrcl.base import check_steps
from lrcl.protocols import _leaks
from lrcl.protocols._found import Found
from lrcl.protocols._halves import Half
from lrcl.protocols._settings import Axes, grid
from lrcl.protocols._trials import MakeLearner, Trials

MakeStream = Callable[[Half, int, int], streams.Stream]
"""`make_stream(half, seed, steps_per_task) -> stream`, with test sets."""

Make = Callable[[streams.Stream], tuple[Any, MakeLearner]]
"""`make(stream) -> (init_fn, make_learner)`; a stack of all seeds' streams."""


@dataclasses.dataclass(frozen=True, eq=False)
class Contender:
  """What is compared: a method under a schedule, a row of reference.

  Attributes:
    make: builds model and learner for a stream. Contenders that share it (the
      same function) are runs of one compiled program.
    axes: the grid that may be searched, the learning rate first; an axis of
      one value sets it, such as the number of a schedule.
    joint: trained on all tasks at once, as an upper row.
  """

  make: Make
  axes: Axes
  joint: bool = False


Contenders = Mapping[str, Contender]


@dataclasses.dataclass(frozen=True, eq=False)
class Scenario:
  """What every contender is run on, in both phases.

  Attributes:
    make_stream: makes one stream from a half, for a seed. It draws the order of
      classes and of rows from it.
    steps_per_task: what it is given as such.
    phases: see `Trials`; None where each task is one.
    company: see `Trials`.
  """

  make_stream: MakeStream
  steps_per_task: int
  phases: int | None = None
  company: int = 1

  def __post_init__(self):
    check_steps('Scenario', 'steps_per_task', self.steps_per_task, 1)

  def stack(
    self, half: Half, seeds: Sequence[int], steps_per_task: int, joint: bool
  ) -> streams.Stream:
    """The streams of all seeds side by side."""
    made = [self.make_stream(half, seed, steps_per_task) for seed in seeds]
    if joint:
      pairs = zip(made, seeds, strict=True)
      made = [streams.joint(stream, seed=seed) for stream, seed in pairs]
    return streams.replicate(made)


class Runs:
  """The trials of a phase, one for contenders that share their program."""

  def __init__(self, half: Half, scenario: Scenario, seeds: Sequence[int]):
    self._half, self._scenario, self._seeds = half, scenario, list(seeds)
    self._streams: dict[tuple[bool, int], streams.Stream] = {}
    self._trials: dict[Any, Trials] = {}

  def trials(self, contender: Contender, gradients: float = 1.0) -> Trials:
    """Those of a contender, with steps for what a gradient a step costs."""
    steps = max(1, round(self._scenario.steps_per_task / max(gradients, 1.0)))
    key = contender.make, contender.joint, steps
    if key not in self._trials:
      stream = self._stream(contender.joint, steps)
      self._trials[key] = Trials(
        stream,
        self._seeds,
        *contender.make(stream),
        phases=None if contender.joint else self._scenario.phases,
        company=self._scenario.company,
      )
    return self._trials[key]

  def rows(self) -> frozenset[bytes]:
    """Digests of what the streams train and test on."""
    if not self._streams:
      self._stream(False, self._scenario.steps_per_task)
    return _leaks.digests(next(iter(self._streams.values())))

  def _stream(self, joint: bool, steps: int) -> streams.Stream:
    if (joint, steps) not in self._streams:
      self._streams[joint, steps] = self._scenario.stack(
        self._half, self._seeds, steps, joint
      )
    return self._streams[joint, steps]


def run_once(
  trials: Trials, setting: Mapping[str, float], seeds: Sequence[int]
) -> Found:
  alone = grid({name: [value] for name, value in setting.items()})
  return trials.sweep(alone, seeds).pick(0)
