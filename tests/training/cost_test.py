"""The ledger of a step against counts by hand."""

import jax
import jax.numpy as jnp
import optax
import pytest

from lrcl import methods, models, streams, training, tree
from tests.training import problem
from tests.training.problem import BATCH, CLASSES, FEATURES

TASKS, CAPACITY = 5, 16
PARAMS = FEATURES * 8 + 8 + 8 * CLASSES + CLASSES  # of the MLP

rate = lambda: methods.scale_by_schedule_value(0.05)
memory_gradient = methods.add_memory_gradient


def remember(*links, rows=BATCH, example=None, **kwargs):
  """A memory around links and the rate."""
  example = problem.example() if example is None else example
  inner = optax.chain(*links, rate())
  return methods.with_memory(inner, CAPACITY, example, rows, **kwargs)


def dark(*links):
  """Replay of stored logits, by a model of the method's own."""
  _, apply_fn = problem.model()
  example = problem.example() | {'logits': jnp.zeros((BATCH, CLASSES))}
  distil = methods.add_distillation_on_memory(apply_fn)
  return remember(distil, *links, example=example, store=('logits',))


def interfered():
  inner = optax.chain(memory_gradient(), rate())
  chosen = methods.retrieve_interfered(inner, BATCH // 2)
  return methods.with_memory(chosen, CAPACITY, problem.example(), BATCH)


def gem():
  memories = methods.project_on_memories(TASKS, 2, problem.example(), sign=-1)
  return optax.chain(rate(), memories)


def searching():
  """A link that looks for a gradient until it is short."""

  def update_fn(updates, state, params=None, *, grad_fn, batch, **extra):
    del extra
    is_long = lambda u: optax.tree.norm(u) > 1.0
    look = lambda u: grad_fn(params, batch)
    return jax.lax.while_loop(is_long, look, updates), state

  link = optax.GradientTransformationExtraArgs(
    lambda _: optax.EmptyState(), update_fn
  )
  return optax.chain(link, rate())


def recycle():
  module = models.MLP((8,), CLASSES, activation=jax.nn.gelu)
  activations_fn = models.activations_from_module(module)
  return methods.redo(rate(), models.unit_graph(module), activations_fn)


# In rows: what goes forward, and what goes back, beyond the batch itself.
HAND = {
  'bare': (rate, 0, 0),
  'momentum': (lambda: optax.chain(optax.trace(0.9), rate()), 0, 0),
  'l2': (lambda: optax.chain(methods.add_l2_anchor(1.0), rate()), 0, 0),
  'ewc': (lambda: optax.chain(methods.add_ewc_penalty(1.0), rate()), 0, 0),
  'replay': (lambda: remember(memory_gradient()), 8, 8),
  'replay of 3': (lambda: remember(memory_gradient(), rows=3), 3, 3),
  'agem': (lambda: remember(methods.project_on_memory()), 8, 8),
  'der': (dark, 8, 8),
  'der++': (lambda: dark(memory_gradient()), 16, 16),
  # The gradient of each task's rows, one after another in a loop.
  'gem': (gem, TASKS * 2, TASKS * 2),
  # All candidates before and after the virtual step, then half of them.
  'mir': (interfered, 2 * 8 + 4, 4),
  # Ten batches of ten, each of the eight rows by way of the whole batch, the
  # batch, and what is replayed.
  'gss': (
    lambda: remember(memory_gradient(), policy='gss'),
    100 + 64 + 8 + 8,
    100 + 64 + 8 + 8,
  ),
  # Twice 64 rows are measured in one pass.
  'importance': (
    lambda: remember(memory_gradient(), policy='importance'),
    128 + 8,
    8,
  ),
  'refresh': (lambda: methods.refresh(rate()), 8, 8),
  'refresh thrice': (lambda: methods.refresh(rate(), steps=3), 24, 24),
  'redo': (recycle, 8, 0),
}


def ledger_of(tx, stream=None):
  stream = problem.stream() if stream is None else stream
  init_fn, apply_fn = problem.model()
  learner = training.Learner(tx, apply_fn)
  state = problem.new_state(init_fn, learner)
  if stream.arms is not None:
    state = state._replace(stream_state=stream.init_state())
  return training.step_ledger(learner, state, stream), state


@pytest.mark.parametrize('name', HAND)
def test_passes_are_those_counted_by_hand(name):
  make, forward, backward = HAND[name]
  ledger, _ = ledger_of(make())
  assert ledger.forward_passes == 1 + forward / BATCH
  assert ledger.backward_passes == 1 + backward / BATCH
  assert ledger.parameters == PARAMS
  in_gradients = (ledger.forward_passes + 2 * ledger.backward_passes) / 3
  assert ledger.gradient_evaluations == in_gradients


@pytest.mark.parametrize(('signal', 'looks'), [('loss', 1), ('progress', 2)])
def test_a_stream_that_learns_looks_at_the_batch(signal, looks):
  tasks = streams.split(problem.arrays(), num_tasks=2, batch_size=BATCH)
  stream = streams.draw_tasks(
    tasks, streams.ucb_arms(window=7), signal=signal, steps=9
  )
  ledger, state = ledger_of(rate(), stream)
  assert ledger.forward_passes == 1 + looks and ledger.backward_passes == 1
  bare, _ = ledger_of(rate())
  kept = sum(x.nbytes for x in jax.tree.leaves(state.stream_state))
  assert ledger.state_bytes == bare.state_bytes + kept > bare.state_bytes


def test_bytes_are_those_of_the_state_and_memories_stand_apart():
  bare, _ = ledger_of(rate())
  adam, _ = ledger_of(optax.chain(optax.scale_by_adam(), rate()))
  assert adam.state_bytes - bare.state_bytes == 2 * 4 * PARAMS + 4
  assert adam.memory_bytes == 0 and adam.stored_bytes == adam.state_bytes
  ewc, _ = ledger_of(optax.chain(methods.add_ewc_penalty(1.0), rate()))
  assert ewc.state_bytes - bare.state_bytes == 2 * 4 * PARAMS
  replay, _ = ledger_of(remember(memory_gradient()))
  rows = CAPACITY * 4 * (FEATURES + 3)  # inputs, labels, weight, task
  assert replay.memory_bytes == rows + 4 + 8  # the count, and the key's words
  assert replay.state_bytes == bare.state_bytes
  several, _ = ledger_of(gem())
  assert several.memory_bytes == TASKS * 2 * 4 * (FEATURES + 3) + TASKS * 4
  assert several.stored_bytes == several.memory_bytes + bare.state_bytes


def test_a_state_of_the_model_is_kept_too():
  def apply_fn(params, inputs, *, model_state, **_):
    return inputs @ params, model_state

  learner, tx = training.Learner(rate(), apply_fn), rate()
  init_fn = lambda key: (jnp.zeros((FEATURES, CLASSES)), jnp.zeros(10))
  state = training.create_state(init_fn, tx, jax.random.key(0))
  ledger = training.step_ledger(learner, state, problem.stream())
  assert ledger.state_bytes == ledger_of(rate())[0].state_bytes + 40
  assert ledger.parameters == FEATURES * CLASSES


def test_nothing_runs_and_hyperparameters_reach_the_chain():
  seen = []

  def make(hyperparams):
    seen.append(hyperparams)
    return rate()

  _, apply_fn = problem.model()
  learner, stream = training.Learner(make, apply_fn), problem.stream()
  _, state = ledger_of(rate())
  shapes = jax.eval_shape(lambda: state)
  cost = training.step_cost(learner, shapes, stream, 'a')
  assert cost['forward_passes'] == 1.0 and seen == ['a']


def test_cost_is_the_ledger_by_name():
  ledger, state = ledger_of(remember(memory_gradient()))
  learner = training.Learner(remember(memory_gradient()), problem.model()[1])
  cost = training.step_cost(learner, state, problem.stream())
  wanted = ledger._asdict() | {
    'gradient_evaluations': 2.0,
    'stored_bytes': ledger.state_bytes + ledger.memory_bytes,
  }
  assert cost == wanted
  assert all(isinstance(value, float) for value in cost.values())


def test_open_loops_are_told():
  assert ledger_of(rate())[0].open_loops == 0
  assert ledger_of(gem())[0].open_loops == 0  # as many turns as tasks
  assert ledger_of(recycle())[0].open_loops == 0  # it recycles, or does not
  assert ledger_of(searching())[0].open_loops == 1


def test_memories_are_those_of_the_library():
  """A new state that keeps rows of the stream belongs in the ledger's list."""
  kept = {
    name
    for name in dir(methods)
    if name.endswith('State')
    and 'items' in getattr(getattr(methods, name), '_fields', ())
  }
  from lrcl.training import _cost

  assert kept == {kind.__name__ for kind in _cost._MEMORIES}
  assert tree.get_states(ledger_of(gem())[1].opt_state, _cost._MEMORIES[1])
