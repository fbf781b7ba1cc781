"""ReDo: which units are new, what stays, and what the optimizer forgets."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import base, methods, metrics, models, tree
from tests.methods import units_problem as problem
from tests.methods.units_problem import CNN, MLP


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam mixes ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def wrap(module, inner=None, **kwargs):
  return methods.redo(
    optax.sgd(0.1) if inner is None else inner,
    models.unit_graph(module),
    models.activations_from_module(module),
    **({'every': 1, 'threshold': 0.0} | kwargs),
  )


SILENT = {
  'mlp': (MLP, {'Dense_0': (1, 4), 'Dense_1': (0,)}),
  'cnn': (CNN, {'Conv_0': (2,), 'Dense_0': (1, 5)}),
}


@pytest.mark.parametrize('name', SILENT)
def test_silent_units_are_new_and_no_output_moves(name):
  module, silent = SILENT[name]
  batch = problem.make_batch(module)
  start = problem.silence(problem.make_params(module), **silent)
  tx = wrap(module)
  end, state = problem.step(tx, tx.init(start), start, batch)
  np.testing.assert_allclose(
    problem.logits(module, end, batch),
    problem.logits(module, start, batch),
    rtol=1e-5,
    atol=1e-6,
  )
  assert int(state.recycled) == sum(map(len, silent.values()))
  readers = {x.name: x.readers[0] for x in models.unit_graph(module)}
  for layer, units in silent.items():
    for unit in units:
      assert float(end[layer]['bias'][unit]) == 0.0
      old, new = (p[layer]['kernel'][..., unit] for p in (start, end))
      assert np.any(new) and not np.any(np.isclose(new, old) & (new != 0))
      # Behind a flattened image the channel is the fastest index.
      count = start[layer]['bias'].size
      rows = end[readers[layer]]['kernel'].reshape(
        -1, count, end[readers[layer]]['kernel'].shape[-1]
      )
      np.testing.assert_array_equal(rows[:, unit], 0.0)
  dormant = lambda p: metrics.dormant_fraction(
    problem.hidden(module, p, batch), 0.0
  )
  assert dormant(start) > 0 and dormant(end) == 0


@pytest.mark.parametrize('module', [MLP, CNN], ids=['mlp', 'cnn'])
def test_live_weights_take_the_step_of_the_optimizer(module):
  batch = problem.make_batch(module)
  start = problem.make_params(module)
  grads = problem.ones(start)
  bare, _ = problem.step(
    optax.with_extra_args_support(optax.sgd(0.1)),
    optax.sgd(0.1).init(start),
    start,
    batch,
    grads,
  )
  tx = wrap(module)
  end, _ = problem.step(tx, tx.init(start), start, batch, grads)
  jax.tree.map(np.testing.assert_array_equal, end, bare)
  # With one silent unit, exactly its weights differ.
  name = models.unit_graph(module)[0].name
  start = problem.silence(start, **{name: (1,)})
  bare, _ = problem.step(
    optax.with_extra_args_support(optax.sgd(0.1)),
    optax.sgd(0.1).init(start),
    start,
    batch,
    grads,
  )
  end, _ = problem.step(tx, tx.init(start), start, batch, grads)
  differ = jax.tree.map(lambda a, b: int(np.sum(a != b)), end, bare)
  kernel = start[name]['kernel']
  assert differ[name] == {'bias': 1, 'kernel': kernel.size // kernel.shape[-1]}
  reader = models.unit_graph(module)[0].readers[0]
  rows = start[reader]['kernel'].size // kernel.shape[-1]
  assert differ[reader] == {'bias': 0, 'kernel': rows}


def test_new_weights_follow_the_initializer():
  module = models.MLP((400,), 3, initializer='uniform')
  params = problem.make_params(module)
  params['Dense_0'] = problem.zeros(params['Dense_0'])
  tx = wrap(module)
  end, state = problem.step(
    tx, tx.init(params), params, problem.make_batch(module)
  )
  kernel = np.abs(end['Dense_0']['kernel'])
  assert int(state.recycled) == 400
  assert kernel.max() <= 0.5 and abs(kernel.mean() - 0.25) < 0.02


@pytest.mark.parametrize('reset_count', [True, False])
def test_the_optimizer_forgets_what_it_knew_of_new_weights(reset_count):
  start = problem.silence(problem.make_params(MLP), Dense_0=(1,))
  inner = optax.chain(optax.trace(0.5), optax.adam(0.01))
  tx = wrap(MLP, inner, every=2, reset_count=reset_count)
  batch, state, params = problem.make_batch(MLP), tx.init(start), start
  for _ in range(2):
    params, state = problem.step(tx, state, params, batch, problem.ones(params))
  adam = tree.get_states(state, optax.ScaleByAdamState)[0]
  trace = tree.get_states(state, optax.TraceState)[0].trace
  assert int(adam.count) == (0 if reset_count else 2)
  for moment in (adam.mu, adam.nu, trace):
    forgotten = jax.tree.map(lambda x: int(np.sum(x == 0)), moment)
    assert forgotten == {
      'Dense_0': {'bias': 1, 'kernel': 4},
      'Dense_1': {'bias': 0, 'kernel': 5},
      'head': {'bias': 0, 'kernel': 0},
    }


def test_counts_stay_where_no_unit_is_dormant():
  params, tx = problem.make_params(MLP), wrap(MLP, optax.adam(0.0))
  _, state = problem.step(tx, tx.init(params), params, problem.make_batch(MLP))
  assert int(state.recycled) == 0
  assert int(state.inner_state[0].count) == 1


def test_looks_at_every_third_update_only_and_pays_for_no_other():
  looks = []
  activations = models.activations_from_module(MLP)

  def counted(params, batch):
    jax.debug.callback(lambda: looks.append(0))
    return activations(params, batch)

  tx = methods.redo(optax.sgd(0.1), models.unit_graph(MLP), counted, every=3)
  params, batch = problem.make_params(MLP), problem.make_batch(MLP)
  state, done = tx.init(params), []
  for _ in range(7):
    params, state = problem.step(tx, state, params, batch)
    jax.effects_barrier()
    done.append(len(looks))
  assert done == [0, 0, 1, 1, 1, 2, 2]


def test_padding_wakes_no_unit():
  params = problem.make_params(MLP)
  params['Dense_0']['kernel'] = jnp.eye(4, 6)
  params['Dense_0']['bias'] = jnp.full(6, 0.0).at[4:].set(1.0)
  inputs = jnp.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
  for weight, recycled in (([1.0, 1.0], 0), ([1.0, 0.0], 1)):
    graph = models.unit_graph(MLP)[:1]
    activations = models.activations_from_module(MLP)
    tx = methods.redo(optax.sgd(0.1), graph, activations, every=1)
    batch = {'inputs': inputs, 'weight': jnp.array(weight)}
    _, state = problem.step(tx, tx.init(params), params, batch)
    assert int(state.recycled) == recycled


def test_an_nnx_tree_has_the_same_names():
  class Model(nnx.Module):
    def __init__(self, rngs):
      self.Dense_0 = nnx.Linear(4, 6, rngs=rngs)
      self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
      return self.head(nnx.relu(self.Dense_0(x)))

  model = Model(nnx.Rngs(0))
  model.Dense_0.bias = nnx.Param(jnp.ones(6).at[2].set(-100.0))
  graphdef, params = nnx.split(model, nnx.Param)

  def hidden(params, batch):
    model = nnx.merge(graphdef, params)
    return {'hidden': nnx.relu(model.Dense_0(batch['inputs']))}

  graph = [base.UnitLayer('Dense_0', 'hidden', ('head',))]
  tx = methods.redo(optax.adam(0.1), graph, hidden, every=1)
  batch = problem.make_batch(MLP)
  end, state = problem.step(tx, tx.init(params), params, batch)
  assert int(state.recycled) == 1
  np.testing.assert_array_equal(end['head']['kernel'][...][2], 0.0)
  run = lambda p: nnx.merge(graphdef, p)(batch['inputs'])
  np.testing.assert_allclose(run(end), run(params), rtol=1e-5, atol=1e-6)


def test_threshold_may_be_traced_and_seeds_mapped():
  params = [problem.make_params(MLP, seed) for seed in range(3)]
  batch = problem.make_batch(MLP)

  def recycled(params, threshold):
    tx = wrap(MLP, threshold=threshold)
    zero = problem.zeros(params)
    return tx.update(zero, tx.init(params), params, batch=batch)[1].recycled

  stack = jax.tree.map(lambda *x: jnp.stack(x), *params)
  both = jax.vmap(recycled, (0, None))
  many = problem.jit(jax.vmap(both, (None, 0)))(stack, jnp.array([0.2, 0.9]))
  alone = problem.jit(recycled)
  for i, threshold in enumerate((0.2, 0.9)):
    assert many[i].tolist() == [int(alone(p, threshold)) for p in params]
  assert np.all(many[0] < many[1])


def test_constructor_errors():
  graph, activations = models.unit_graph(MLP), lambda params, batch: {}
  make = lambda graph, **kwargs: methods.redo(
    optax.sgd(0.1), graph, activations, **kwargs
  )
  with pytest.raises(ValueError, match='threshold is -1'):
    make(graph, threshold=-1.0)
  with pytest.raises(ValueError, match='every is 0'):
    make(graph, every=0)
  with pytest.raises(TypeError, match='redo: graph is'):
    make([])
  with pytest.raises(ValueError, match="readers of 'head' are"):
    make([base.UnitLayer('head', 'x', ())])


def test_errors_of_what_does_not_fit():
  params, batch = problem.make_params(MLP), problem.make_batch(MLP)
  none = lambda params, batch: {}
  for graph, match in (
    ([base.UnitLayer('Dense_7', 'x', ('head',))], "no 'Dense_7/kernel'"),
    ([base.UnitLayer('Dense_0', 'x', ('head',))], 'no multiple of the 6'),
  ):
    with pytest.raises(ValueError, match=match):
      methods.redo(optax.sgd(0.1), graph, none).init(params)
  graph = models.unit_graph(MLP)
  tx = methods.redo(optax.sgd(0.1), graph, none, every=1)
  with pytest.raises(ValueError, match=r"asks for 'hidden_0'"):
    tx.update(params, tx.init(params), params, batch=batch)
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, tx.init(params), batch=batch)
  with pytest.raises(TypeError, match='batch'):
    tx.update(params, tx.init(params), params)
