"""The stages of a search: how long they are, and where they are kept."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from lrcl import base, schedules
from lrcl.streams import Stream
from lrcl.training._auto_lrs_forecast import MIN_LOSSES, check_smoothing
from lrcl.training._auto_lrs_proposals import check_range
from lrcl.training._branches import Branches, Restored
from lrcl.training._checkpoints import NoCheckpoint
from lrcl.training._records import RecordFile, to_json
from lrcl.training._state import TrainState

Stage = dict[str, Any]

FILE = 'auto_lrs.jsonl'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Everything that decides what a search finds; see `auto_lrs`."""

  min_rate: float
  max_rate: float
  stage_steps: int
  max_stage_steps: int
  trial_steps: int
  candidates: int
  parallel: int
  kappa: float
  seed: int
  smoothing: Any
  warmup: Any
  warmup_steps: int

  def __post_init__(self):
    check_range('auto_lrs', self.min_rate, self.max_rate)
    check_smoothing('auto_lrs', self.smoothing)
    for name, minimum in (
      ('stage_steps', 1),
      ('max_stage_steps', self.stage_steps),
      ('trial_steps', MIN_LOSSES),
      ('candidates', 1),
      ('parallel', 1),
      ('warmup_steps', 0 if self.warmup is None else 1),
    ):
      base.check_steps('auto_lrs', name, getattr(self, name), minimum)
    self._check_together()

  def _check_together(self) -> None:
    if self.trial_steps > self.stage_steps:
      raise ValueError(
        f'auto_lrs: trial_steps is {self.trial_steps}; it must be at most '
        f'stage_steps, {self.stage_steps}.'
      )
    if self.candidates % self.parallel:
      raise ValueError(
        f'auto_lrs: parallel is {self.parallel}; it must divide candidates, '
        f'{self.candidates}, so that one program serves them all.'
      )
    if self.warmup is None and self.warmup_steps:
      raise ValueError(
        f'auto_lrs: warmup_steps is {self.warmup_steps} without a warmup; '
        'give the record of its schedule.'
      )


def plan_stage(settings: Settings, index: int, start: int, end: int) -> Stage:
  """Stage `index`, from step `start` of a stream that ends at `end`.

  A rest of the stream that is too short for a trial joins the stage.
  """
  longest = settings.max_stage_steps
  steps = min(settings.stage_steps << min(index, 40), longest)
  trial = steps * settings.trial_steps // settings.stage_steps
  if end - start - steps < settings.trial_steps:
    steps = end - start
  before = settings.stage_steps << min(max(index - 1, 0), 40)
  return dict(
    stage=index,
    step=start,
    steps=steps,
    trial_steps=min(trial, steps),
    # As in the authors' code: from the stage after the first longest one.
    after_longest=index > 0 and before >= longest,
  )


def check_stream(settings: Settings, stream: Stream, start: int) -> None:
  """Refuses a stream that is too short for the first trial."""
  if stream.replicas is not None:
    raise ValueError(
      'auto_lrs: the stream is replicated; search on a single one, since each '
      'run finds rates of its own.'
    )
  first = max(start, settings.warmup_steps)
  if stream.num_steps - first < settings.trial_steps:
    raise ValueError(
      f'auto_lrs: the stream ends at step {stream.num_steps} and the first '
      f'stage begins at {first}; at least trial_steps, '
      f'{settings.trial_steps}, must lie between.'
    )


def find_schedule(
  stages: Sequence[Stage], settings: Settings
) -> dict[str, Any] | None:
  """The rates of the stages as a schedule in the recordable form."""
  pieces = [
    {'name': 'constant_schedule', 'kwargs': {'value': stage['rate']}}
    for stage in stages
  ]
  boundaries = [stage['count'] for stage in stages]
  if settings.warmup is None:
    boundaries = boundaries[1:]
  else:
    pieces = [settings.warmup, *pieces]
  if not pieces:
    return None
  record = pieces[0]
  if boundaries:
    kwargs = {'schedules': pieces, 'boundaries': boundaries}
    record = {'name': 'join_schedules', 'kwargs': kwargs}
  return schedules.describe_schedule(record)


class Notes:
  """The stages of a run so far, on the disk where it has branches.

  Each stage is one line of `<branch>/auto_lrs.jsonl`, written when its rate
  has been found, before the first step at that rate. With the newest
  checkpoint of the branch it is all that a search needs to go on.

  Args:
    branches: the branches of the run, or None.
    branch: the branch that it writes.
    settings: must be those of the stages that lie there.
  """

  def __init__(
    self, branches: Branches | None, branch: str, settings: Settings
  ):
    self.stages: list[Stage] = []
    self._branches, self._branch = branches, branch
    self._settings = to_json(dataclasses.asdict(settings))
    self._file = None
    if branches is not None:
      self._file = RecordFile(branches.directory(branch) / FILE)

  def add(self, stage: Stage) -> None:
    """Notes a stage whose rate has been found."""
    self.stages.append({**stage, 'settings': self._settings})
    if self._file is not None:
      self._file.append(self.stages[-1])

  def resume(self, state: TrainState, start: int) -> Restored:
    """The newest state of the branch; `state`, at step `start`, if none.

    Raises:
      ValueError: if the branch was searched with other settings, or has
        trained past its last stage.
    """
    if self._branches is None or self._file is None:
      return Restored(state, start, {})
    if self._branch not in self._branches.tree():
      self._branches.create(self._branch)
    try:
      found = self._branches.restore(self._branch, like=state)
    except NoCheckpoint:
      found = Restored(state, start, {})
    if found.step == self._branches.tree()[self._branch].fork_step:
      found = found._replace(extra={})  # the trace is the parent's
    self._file.truncate(found.step)
    self.stages = self._file.read()
    for stage in self.stages:
      self._check_settings(stage['settings'])
    self._check_end(found.step)
    return found

  def _check_settings(self, found: Mapping[str, Any]) -> None:
    for name, value in self._settings.items():
      if found.get(name) != value:
        raise ValueError(
          f'auto_lrs: branch {self._branch!r} was searched with {name} '
          f'{found.get(name)!r}, not {value!r}; take another branch.'
        )

  def _check_end(self, step: int) -> None:
    if not self.stages:
      return
    end = self.stages[-1]['step'] + self.stages[-1]['steps']
    if step > end:
      raise ValueError(
        f'auto_lrs: branch {self._branch!r} is at step {step}, past its last '
        f'stage, which ends at {end}; fork it to search on from there.'
      )
