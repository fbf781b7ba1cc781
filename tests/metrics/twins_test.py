"""Every public metric against its twin, on random inputs; none is left out."""

import inspect
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from lrcl import metrics, tree
from tests.metrics import monoids_test, twins


def _is_public(name):
  return not name.startswith('_') and not inspect.ismodule(
    getattr(metrics, name)
  )


PUBLIC = {name: getattr(metrics, name) for name in dir(metrics)}
PUBLIC = {name: thing for name, thing in PUBLIC.items() if _is_public(name)}
FUNCTIONS = [n for n, thing in PUBLIC.items() if inspect.isfunction(thing)]
CLASSES = [n for n, thing in PUBLIC.items() if inspect.isclass(thing)]


class Inputs:
  """Random arguments, by the names that they have in signatures.

  Shapes are of few kinds, so that few programs are compiled; accuracies have
  few levels, so that ties occur.
  """

  def __init__(self, seed: int, kind: int):
    rng = np.random.default_rng(seed)
    levels = lambda *shape: rng.integers(0, 9, shape) / 8
    tasks, rows = (1, 3, 4)[kind], (5, 9, 14)[kind]
    self.matrix = levels(tasks, tasks)
    self.baseline, self.joint = levels(tasks), levels(tasks)
    self.curves = levels(tasks, 1 + kind)
    self.accuracy = levels(rows, tasks) * (rng.random(tasks) < 0.8)
    ends = rng.choice(rows, rng.integers(1, tasks + 1), replace=False)
    self.task_ends = sorted(ends.tolist())
    self.steps = np.cumsum(rng.integers(1, 9, rows))
    self.samples = None if rng.random() < 0.3 else self.steps
    self.tolerance = rng.choice([0.0, 0.01, 0.1])
    self.window = int(rng.integers(2, rows + 3))
    self.as_code = bool(rng.random() < 0.5)
    self._networks(rng, kind)
    self._seeds(rng, kind)

  def _networks(self, rng, kind):
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    silent = lambda *shape: (
      np.maximum(normal(*shape), 0)
      * (rng.choice([0.0, 0.02, 1.0], shape[-1]).astype(np.float32))
    )
    self.activations = {'a': silent(6, 5), 'b': silent(6, 2, 3, 4)}
    self.weight = None if kind == 0 else rng.integers(0, 3, 6) + np.eye(6)[0]
    if self.weight is not None:
      self.weight = self.weight.astype(np.float32)
    self.threshold = rng.choice([0.0, 0.025, 0.1, 0.7])
    self.features = silent(*((7, 4), (4, 7), (9, 5))[kind])
    self.delta = rng.choice([0.01, 0.2])
    make = lambda: {
      'a': {'kernel': normal(3, 4), 'bias': normal(4)},
      'b': {'kernel': normal(4, 2) * (rng.random() < 0.7)},
      'scale': normal(3),
    }
    self.params, self.previous, self.updates = make(), make(), make()
    self.mask = None if rng.random() < 0.5 else 'kernel'
    self.learning_rate = float(rng.random())
    self.kind = str(rng.choice(['sgd', 'adam']))

  def _seeds(self, rng, kind):
    names = ('a', 'b', 'scale')
    self.trace = {n: rng.random(8) * (rng.random() < 0.8) for n in names}
    self.switches = sorted(rng.choice(range(1, 7), 2, False).tolist())
    self.jumps = dict(zip(names, rng.permutation(3) + 0.5, strict=True))
    self.fraction = float(rng.uniform(0.05, 1.0))
    self.values = rng.normal(size=(1 + kind, 3))
    self.axis = 0
    self.confidence = float(rng.choice([0.5, 0.9, 0.95]))


inputs = st.builds(Inputs, st.integers(0, 2**31), st.integers(0, 2))


def _arguments(name: str, given: Inputs) -> dict[str, Any]:
  signature = inspect.signature(PUBLIC[name])
  found = {param: getattr(given, param) for param in signature.parameters}
  if name == 'area_under_accuracy':  # one accuracy, not one for each task
    found['accuracy'] = given.accuracy[:, 0]
  return found


def _flat(found: Any) -> dict[str, Any]:
  """What a metric gave, by the names of its leaves."""
  leaves: Any = jax.tree_util.tree_leaves_with_path(found)
  return {tree.leaf_name(path): np.asarray(x) for path, x in leaves}


@pytest.mark.parametrize('name', FUNCTIONS)
def test_a_metric_is_its_twin(name):
  metric, twin = PUBLIC[name], getattr(twins, name)
  wanted_names = list(inspect.signature(metric).parameters)
  assert list(inspect.signature(twin).parameters) == wanted_names

  @settings(max_examples=25, deadline=None)
  @given(inputs)
  def check(drawn):
    arguments = _arguments(name, drawn)
    want = _flat(twin(**arguments))
    if arguments.get('mask'):
      arguments['mask'] = tree.path_mask(arguments['mask'])
    got = _flat(metric(**arguments))
    assert got.keys() == want.keys()
    for leaf, value in want.items():
      np.testing.assert_allclose(
        got[leaf], value, rtol=3e-5, atol=1e-6, err_msg=f'{name} {leaf}'
      )

  check()


def test_nothing_public_is_without_a_twin():
  assert set(FUNCTIONS) <= set(vars(twins))
  twinless = set(CLASSES) - set(monoids_test.MONOIDS)
  results = {
    inspect.signature(PUBLIC[name]).return_annotation for name in FUNCTIONS
  }
  assert {PUBLIC[name] for name in twinless} <= results  # what a metric returns
  assert set(CLASSES) | set(FUNCTIONS) == set(PUBLIC)


def test_twins_have_metrics():
  made = {
    name
    for name, thing in vars(twins).items()
    if inspect.isfunction(thing) and not name.startswith('_')
  }
  assert made == set(FUNCTIONS)


def test_a_wrong_metric_is_noticed(monkeypatch):
  off = lambda matrix: metrics.forgetting(matrix) + 1e-3
  monkeypatch.setitem(PUBLIC, 'forgetting', off)
  with pytest.raises(AssertionError):
    test_a_metric_is_its_twin('forgetting')
