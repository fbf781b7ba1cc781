import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import texts, wsd_bigrams, wsd_forks
from lrcl.training import Branches, TrainState

_SETTING = {'peak': 8.0, 'end': 0.1}
_ENDS = [10, 20, 40]


@pytest.fixture(scope='module')
def bigrams():
  return wsd_bigrams.Bigrams(texts.read_sources('optax', 20_000))


def test_text_is_real_and_fits_the_vocabulary():
  tokens = texts.read_sources('optax', 20_000)
  assert len(tokens) == 20_000
  assert tokens.max() < texts.VOCABULARY
  assert b'# Copyright' in tokens.tobytes()


def test_the_loss_is_that_of_all_pairs(bigrams):
  tokens = texts.read_sources('optax', 20_000).astype(int)
  table = np.random.default_rng(0).normal(size=(128, 128))
  logp = table - np.log(np.exp(table).sum(1, keepdims=True))
  wanted = -logp[tokens[:-1], tokens[1:]].mean()
  assert float(bigrams.loss(jnp.asarray(table))) == pytest.approx(wanted)


def test_the_floor_is_the_loss_of_counting(bigrams):
  tokens = texts.read_sources('optax', 20_000)
  counts = np.full((128, 128), 1e-9)
  np.add.at(counts, (tokens[:-1], tokens[1:]), 1.0)
  table = jnp.asarray(np.log(counts))
  assert float(bigrams.loss(table)) == pytest.approx(bigrams.floor, rel=1e-4)


def test_a_step_follows_the_gradient_of_its_pairs(bigrams):
  key, table = jax.random.key(0), 0.1 * jnp.ones((128, 128))
  after = bigrams.step(table, jnp.float32(2.0), key, jnp.int32(3))
  tokens = texts.read_sources('optax', 20_000).astype(int)
  shape = (wsd_bigrams.BATCH,)
  at = jax.random.randint(jax.random.fold_in(key, 3), shape, 0, 19_999)
  pairs = tokens[np.asarray(at)], tokens[np.asarray(at) + 1]
  loss = lambda t: -jnp.mean(jax.nn.log_softmax(t)[pairs])
  wanted = table - 2.0 * jax.grad(loss)(table)
  np.testing.assert_allclose(after, wanted, atol=1e-6)


@pytest.mark.parametrize('fork', [wsd_forks.fork_wsd, wsd_forks.fork_wsd_s])
def test_forks_are_bit_identical_to_uninterrupted_runs(fork, bigrams, tmp_path):
  advance, used = jax.jit(bigrams.advance), {}

  def recording(state, rates, stop):
    start = int(state.step)
    head = used.get((start, bytes(np.asarray(state.params))), np.zeros(0))
    after = advance(state, rates, stop)
    row = np.concatenate([head, np.asarray(rates[start:stop])])
    used[stop, bytes(np.asarray(after.params))] = row
    return after

  start = TrainState(jnp.int32(0), bigrams.init(), (), jax.random.key(1))
  with Branches(tmp_path) as tree:
    forked = fork(tree, recording, start, _SETTING, _ENDS)
    lineages = tree.tree()
  for state, end in zip(forked.states, _ENDS, strict=True):
    assert int(state.step) == end
    rates = used[end, bytes(np.asarray(state.params))]
    rates = jnp.asarray(np.resize(rates, _ENDS[-1]), jnp.float32)
    whole = advance(start, rates, end)
    np.testing.assert_array_equal(whole.params, state.params)
  if fork is wsd_forks.fork_wsd:
    assert forked.steps == 36 + 1 + 2 + 4
    assert lineages['decay-40'].parent == 'main'
  else:
    assert forked.steps == 40
    assert lineages['stretch-20'].parent == 'decay-20'
    assert lineages['decay-40'].parent == 'stretch-20'
