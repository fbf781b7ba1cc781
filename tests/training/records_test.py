import json

import jax.numpy as jnp
import numpy as np
import pytest

from lrcl import training
from lrcl.training import _records
from lrcl.training._step import StepInfo
from lrcl.training._trace import Trace


def test_float32_survives_in_few_digits():
  for value in np.random.default_rng(0).normal(size=50).astype(np.float32):
    number = _records.to_json(value)
    assert np.float32(number) == value
    assert len(repr(number)) <= 16


def test_what_is_no_number_becomes_null():
  found = _records.to_json(
    {'a': jnp.array([1.0, jnp.nan]), 'b': (float('inf'), np.int32(3), True)}
  )
  assert found == {'a': [1.0, None], 'b': [None, 3, True]}


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
  file = training.RecordFile(tmp_path / 'run' / 'records.jsonl')
  for step in (10, 20):
    file.append({'step': step})
  with open(file.path, 'a') as raw:
    raw.write('{"step": 3')
  assert [r['step'] for r in file.read()] == [10, 20]
  file.truncate(20)
  file.append({'step': 30})
  assert [r['step'] for r in file.read()] == [10, 20, 30]


def test_truncate_drops_what_will_be_written_again(tmp_path):
  file = training.RecordFile(tmp_path / 'records.jsonl')
  file.truncate(5)  # nothing there yet
  for step in (10, 20, 30):
    file.append({'step': step, 'x': 0.1})
  before = file.path.read_text()
  file.truncate(30)
  assert file.path.read_text() == before
  file.truncate(10)
  assert file.path.read_text() == json.dumps({'step': 10, 'x': 0.1}) + '\n'


def infos(losses, rates):
  losses, rates = np.float32(losses), np.float32(rates)
  return StepInfo(losses, rates, np.zeros(losses.shape, np.int32))


def test_trace_goes_on_from_what_a_checkpoint_holds():
  whole = Trace(4)
  whole.add(infos([1, 2, 9], [0.1, 0.2, 9]), 2)
  saved = json.loads(json.dumps(_records.to_json(whole.as_dict())))
  again = Trace(6, saved)
  for trace in (whole, again):
    trace.add(infos([3], [0.3]), 1)
  assert _records.to_json(whole.as_dict()) == _records.to_json(again.as_dict())
  assert again.start == 4 and whole.last_loss == 3.0


def test_trace_of_replicas_shares_one_rate_where_it_is_one():
  trace = Trace(0)
  trace.add(infos([[1, 2], [3, 4]], [[0.1, 0.2], [0.1, 0.2]]), 2)
  found = trace.as_dict()
  assert found['loss'].shape == (2, 2) and found['learning_rate'].shape == (2,)
  trace.add(infos([[1], [2]], [[0.1], [0.3]]), 1)
  assert trace.as_dict()['learning_rate'].shape == (2, 3)


def test_configurations_have_digests_of_their_own():
  first = training.digest_config({'a': 1, 'b': {'c': (1, 2)}})
  assert first == training.digest_config({'b': {'c': [1, 2]}, 'a': 1})
  assert first != training.digest_config({'a': 1, 'b': {'c': [2, 1]}})


@pytest.mark.parametrize('name', ['lrcl', 'jax', 'optax', 'orbax-checkpoint'])
def test_versions_are_named(name):
  assert training.versions()[name]
