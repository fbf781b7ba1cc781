"""One battery for all methods; a method is one row of the table.

A row says how to make the method and which extra args it cannot do without.
Everything else is asked of all alike: it ignores what it does not know, keeps
dtypes and the structure of its state, compiles once, survives wrappers that
skip steps, donation and checkpoints, and gives the same on one device and
four, under `jit` and `pmap`, for one seed and for a stack of them.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from lrcl import base, methods, schedules, tree
from tests.methods import problem

EXAMPLE = jax.eval_shape(problem.make_batch)
with_memory = functools.partial(
  methods.with_memory, capacity=12, example=EXAMPLE, batch_size=4
)


@dataclasses.dataclass(frozen=True)
class Method:
  """One row.

  Attributes:
    make: makes the transformation.
    needs: the extra args without which `update` raises a `TypeError`.
    identity: whether updates pass unchanged until the method has consolidated.
    rate: whether the row holds a link that applies a learning rate; the others
      are followed by one in tests that take steps.
  """

  make: Callable[[], optax.GradientTransformation]
  needs: tuple[str, ...] = ()
  identity: bool = False
  rate: bool = False

  def chain(self) -> optax.GradientTransformationExtraArgs:
    if self.rate:
      return optax.with_extra_args_support(self.make())
    return optax.chain(self.make(), methods.scale_by_schedule_value(0.1))


def make_rate() -> optax.GradientTransformation:
  ramp = lambda step: 0.2 / (1.0 + jnp.asarray(step, jnp.float32))
  return methods.scale_by_schedule_value(schedules.per_task(ramp))


def make_canonical() -> optax.GradientTransformation:
  """The whole chain of the design, in its order."""
  return with_memory(
    optax.chain(
      methods.add_memory_gradient(0.5),
      methods.add_ewc_penalty(2.0),
      optax.clip_by_global_norm(1.0),
      optax.scale_by_adam(),
      optax.add_decayed_weights(1e-2),
      make_rate(),
      methods.normalize_and_project(),
    )
  )


def make_l2_init() -> optax.GradientTransformation:
  return methods.consolidate_at_init(methods.with_l2_anchor(make_rate(), 0.5))


def make_l2_last() -> optax.GradientTransformation:
  return methods.consolidate_at_task_change(methods.add_l2_anchor(0.5))


def make_synaptic() -> optax.GradientTransformation:
  return methods.synaptic_intelligence(make_rate(), 0.5)


def make_walk() -> optax.GradientTransformation:
  return methods.riemannian_walk(make_rate(), 0.5, every=2, form='decoupled')


def make_mup() -> optax.GradientTransformation:
  narrow = lambda shape: tuple(2 if n == problem.HIDDEN else n for n in shape)
  shapes = jax.tree.map(lambda p: narrow(p.shape), problem.init_params())
  return methods.scale_by_mup(shapes, kind='sgd')


def make_hypergradient() -> optax.GradientTransformation:
  return methods.scale_by_hypergradient(optax.trace(0.9), 0.1, 0.01)


def make_fedhyper_client() -> optax.GradientTransformation:
  delta = problem.init_params(5)
  return methods.scale_by_fedhyper_client(0.1, delta, 0.01, form='official')


def make_replay_rate() -> optax.GradientTransformation:
  rate = methods.scale_by_replay_rate(
    0.2, EXAMPLE, 4, factor=0.5, period=1, records=2, warmup_steps=0
  )
  return with_memory(optax.chain(methods.add_memory_gradient(), rate))


def make_projection() -> optax.GradientTransformation:
  project = methods.project_on_memory(-1, past_only=True)
  return with_memory(optax.chain(make_rate(), project))


def make_projections() -> optax.GradientTransformation:
  project = methods.project_on_memories(3, 4, EXAMPLE, sign=-1)
  return optax.chain(make_rate(), project)


def make_dark_replay() -> optax.GradientTransformation:
  """DER++ with independent draws; logits are kept in float32."""
  logits = jax.ShapeDtypeStruct((8, problem.CLASSES), jnp.float32)
  part = lambda start: (
    lambda memory: jax.tree.map(lambda x: x[start : start + 4], memory)
  )
  distil = methods.add_distillation_on_memory(problem.apply_fn, 0.5)
  replay = methods.add_memory_gradient(0.5)
  inner = optax.chain(
    methods.map_memory(distil, part(0)), methods.map_memory(replay, part(4))
  )
  example = {**EXAMPLE, 'logits': logits}
  tx = with_memory(inner, example=example, batch_size=8, store=('logits',))

  def update_fn(updates, state, params=None, *, logits, **extra_args):
    logits = logits.astype(jnp.float32)
    return tx.update(updates, state, params, logits=logits, **extra_args)

  return optax.GradientTransformationExtraArgs(tx.init, update_fn)


def make_retrieval() -> optax.GradientTransformation:
  inner = optax.chain(methods.add_memory_gradient(), make_rate())
  return with_memory(methods.retrieve_interfered(inner, 4), batch_size=8)


def make_relabelling() -> optax.GradientTransformation:
  """The three classes are a root and its two children."""
  inner = methods.relabel_memory(
    methods.add_memory_gradient(0.5), problem.apply_fn, (-1, 0, 0)
  )
  return with_memory(inner)


def make_refresh() -> optax.GradientTransformation:
  rate = methods.scale_by_schedule_value(0.1)
  inner = optax.chain(methods.add_memory_gradient(0.5), rate)
  return with_memory(methods.refresh(inner, 0.01, noise=0.1))


def make_reset() -> optax.GradientTransformation:
  link = optax.schedules.InjectStatefulHyperparamsState
  inner = optax.chain(optax.scale_by_adam(), make_rate())
  return methods.reset_on_task(inner, keep=link)


def make_shrink_and_perturb() -> optax.GradientTransformation:
  perturb = methods.shrink_and_perturb(0.6, 0.01)
  return optax.chain(make_rate(), perturb)


def make_experts() -> optax.GradientTransformation:
  """Two experts and a detector that sees shifts soon."""
  detector = methods.window_shift(1, 2, 0.01)
  rate = methods.scale_by_schedule_value(0.1)
  experts = methods.with_experts(rate, 2, detector=detector)
  select = lambda selector, inputs: inputs.astype(jnp.float32) @ selector
  selector = jnp.zeros((problem.INPUTS, 2))
  return methods.with_selector(
    experts, select, selector, EXAMPLE, capacity=12, batch_size=4
  )


UNITS = [base.UnitLayer('hidden', 'hidden', ('head',))]


def hidden(params: Any, batch: Any) -> Any:
  layer = params['hidden']
  inputs = batch['inputs'].astype(layer['kernel'].dtype)
  return {'hidden': jnp.tanh(inputs @ layer['kernel'] + layer['bias'][None])}


def make_redo() -> optax.GradientTransformation:
  return methods.redo(make_rate(), UNITS, hidden, threshold=0.9, every=3)


def make_continual_backprop() -> optax.GradientTransformation:
  return methods.continual_backprop(
    make_rate(), UNITS, hidden, replacement_rate=0.1, maturity=2
  )


METHODS = {
  'scale_by_schedule_value': Method(make_rate, ('task_id',), rate=True),
  'add_l2_anchor': Method(lambda: methods.add_l2_anchor(0.5), identity=True),
  'add_ewc_penalty': Method(
    lambda: methods.add_ewc_penalty(0.5), identity=True
  ),
  'with_ewc_penalty': Method(
    lambda: methods.with_ewc_penalty(make_rate(), 0.5), ('task_id',), rate=True
  ),
  'with_l2_anchor': Method(make_l2_init, ('task_id',), rate=True),
  'consolidate_at_task_change': Method(make_l2_last, ('task_id',)),
  'synaptic_intelligence': Method(make_synaptic, ('task_id',), rate=True),
  'ewc_plus_plus': Method(
    lambda: methods.ewc_plus_plus(make_rate(), 0.5, form='implicit'),
    ('task_id',),
    rate=True,
  ),
  'riemannian_walk': Method(make_walk, ('task_id',), rate=True),
  'with_memory': Method(
    lambda: with_memory(methods.add_memory_gradient()), ('batch', 'grad_fn')
  ),
  'normalize_and_project': Method(
    lambda: optax.chain(make_rate(), methods.normalize_and_project()),
    ('task_id',),
    rate=True,
  ),
  'project_scales': Method(
    lambda: optax.chain(
      make_rate(), methods.project_scales(mask=tree.path_mask('hidden/bias'))
    ),
    ('task_id',),
    rate=True,
  ),
  'reset_on_task': Method(make_reset, ('task_id',), rate=True),
  'shrink_and_perturb': Method(
    make_shrink_and_perturb, ('task_id',), rate=True
  ),
  'redo': Method(make_redo, ('batch', 'task_id'), rate=True),
  'continual_backprop': Method(
    make_continual_backprop, ('batch', 'task_id'), rate=True
  ),
  'scale_by_mup': Method(make_mup),
  'scale_by_hypergradient': Method(make_hypergradient, rate=True),
  'scale_by_cdat': Method(
    lambda: methods.scale_by_cdat(optax.trace(0.9), max_value=0.2),
    ('batch', 'grad_fn'),
    rate=True,
  ),
  'scale_by_fedhyper_global': Method(
    lambda: methods.scale_by_fedhyper_global(0.5, momentum=0.9), rate=True
  ),
  'track_fedhyper_client_rate': Method(
    lambda: methods.track_fedhyper_client_rate(0.1), identity=True
  ),
  'scale_by_fedhyper_client': Method(make_fedhyper_client, rate=True),
  'scale_by_replay_rate': Method(
    make_replay_rate, ('batch', 'grad_fn', 'value_fn'), rate=True
  ),
  'project_on_memory': Method(
    make_projection, ('batch', 'grad_fn', 'task_id'), rate=True
  ),
  'project_on_memories': Method(
    make_projections, ('batch', 'grad_fn', 'task_id'), rate=True
  ),
  'orthogonal_gradient': Method(
    lambda: methods.orthogonal_gradient(4), identity=True
  ),
  'add_distillation_on_memory': Method(
    make_dark_replay, ('batch', 'grad_fn', 'logits')
  ),
  'retrieve_interfered': Method(
    make_retrieval, ('batch', 'grad_fn', 'value_fn', 'task_id'), rate=True
  ),
  'relabel_memory': Method(make_relabelling, ('batch', 'grad_fn')),
  'class_balanced': Method(
    lambda: with_memory(methods.add_memory_gradient(), policy='class_balanced'),
    ('batch', 'grad_fn'),
  ),
  'gss': Method(
    lambda: with_memory(
      methods.add_memory_gradient(), policy=methods.gss_policy(2, 4)
    ),
    ('batch', 'grad_fn'),
  ),
  'importance': Method(
    lambda: with_memory(
      methods.add_memory_gradient(), policy=methods.importance_policy(8)
    ),
    ('batch', 'grad_fn', 'value_fn'),
  ),
  'with_experts': Method(
    make_experts, ('value', 'value_fn', 'batch'), rate=True
  ),
  'with_task_experts': Method(
    lambda: methods.with_task_experts(make_rate(), 2), ('task_id',), rate=True
  ),
  'update_task_rows': Method(methods.update_task_rows, ('task_id',)),
  'refresh': Method(make_refresh, ('batch', 'grad_fn'), rate=True),
  'params_ema': Method(lambda: methods.params_ema(0.9, every=2), identity=True),
  'params_mean': Method(methods.params_mean, identity=True),
  'params_window': Method(lambda: methods.params_window(3), identity=True),
  'dynamic_ema': Method(methods.dynamic_ema, identity=True),
  'scale_groups': Method(lambda: methods.scale_groups({'^hidden': 0.1})),
  'drop_and_grow': Method(
    lambda: methods.drop_and_grow(
      make_rate(), 0.4, tasks=2, death_rate=0.5, every=2
    ),
    ('task_id',),
    rate=True,
  ),
  'metaplastic_kl': Method(lambda: methods.metaplastic_kl(1.5)),
  'accumulate': Method(
    lambda: methods.accumulate(make_rate(), 2), ('task_id',), rate=True
  ),
  'keep_extra_args': Method(
    lambda: methods.keep_extra_args(make_rate(), 'task_id'),
    ('task_id',),
    rate=True,
  ),
  'canonical': Method(
    make_canonical, ('batch', 'grad_fn', 'task_id'), rate=True
  ),
}
OPTAX_INSIDE = ('accumulate', 'canonical', 'reset_on_task', 'with_experts')


def rows(keep: Callable[[str], bool] = lambda name: True) -> Any:
  names = [name for name in METHODS if keep(name)]
  return pytest.mark.parametrize(
    'method', [METHODS[n] for n in names], ids=names
  )


each = rows()

TASKS = (0, 0, 0, 1, 1, 1, 0, 0)

# Compiling is what these tests do most of the time: skip LLVM's optimisations.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


@pytest.fixture(autouse=True)
def optax_promotes():
  """optax's Adam and MultiSteps mix ints with floats."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def stack_of_batches(count: int = len(TASKS)) -> Any:
  batches = [problem.make_batch(i, 8, i % 3) for i in range(count)]
  return jax.tree.map(lambda *x: jnp.stack(x), *batches)


def first_call(method: Method) -> Any:
  """Arguments of a first update: transformation, grads, state, and so on."""
  params, tx = problem.init_params(), method.make()
  tx = optax.with_extra_args_support(tx)
  extras = problem.extra_args(params, problem.make_batch())
  grads = extras['grad_fn'](params, extras['batch'])
  return tx, grads, tx.init(params), params, extras


def run(
  tx: optax.GradientTransformation,
  params: Any,
  opt_state: Any,
  batches: Any,
  tasks: Any = TASKS,
) -> Any:
  """A compiled run over the leading axis of `batches`."""
  step = problem.make_step(tx)

  def body(carry, xs):
    return step(*carry, *xs), None

  xs = (batches, jnp.asarray(tasks, jnp.int32))
  return jax.lax.scan(body, (params, opt_state), xs)[0]


@functools.cache
def compiled_run(method: Method) -> Callable[..., Any]:
  """`run` for one method, compiled once for all tests."""
  return jit(functools.partial(run, method.chain()))


def kinds(state: Any) -> Any:
  return jax.tree.map(lambda x: (jnp.shape(x), x.dtype), state)


def close(a: Any, b: Any) -> None:
  def check(x, y):
    x, y = (np.asarray(tree.to_numpy(z), np.float64) for z in (x, y))
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)

  jax.tree.map(check, a, b)


@each
def test_takes_exactly_the_extra_args_it_needs(method):
  tx, grads, state, params, extras = first_call(method)
  update = lambda extras: jax.eval_shape(
    lambda g, s, p: tx.update(g, s, p, **extras), grads, state, params
  )
  update(extras | {'never_heard_of': jnp.ones(3)})
  update({name: extras[name] for name in method.needs})
  for name in method.needs:
    with pytest.raises(TypeError, match=name):
      update({k: v for k, v in extras.items() if k != name})


@rows(lambda name: name not in OPTAX_INSIDE)  # optax's own do promote
def test_library_code_promotes_nothing(method):
  tx, grads, state, params, extras = first_call(method)
  with jax.numpy_dtype_promotion('strict'):
    jax.eval_shape(lambda: tx.update(grads, state, params, **extras))


@rows(lambda name: METHODS[name].identity)
def test_identity_until_it_has_consolidated(method):
  tx, grads, state, params, extras = first_call(method)
  for task in (0, 1):
    extras['task_id'] = jnp.int32(task)
    updates, state = tx.update(grads, state, params, **extras)
    params = jax.tree.map(lambda p: p + 1.0, params)
    jax.tree.map(np.testing.assert_array_equal, updates, grads)


@each
def test_compiles_once_with_everything_donated(method):
  params, tx = problem.init_params(), method.chain()
  step, traces = problem.make_step(tx), []

  def counted(*args):
    traces.append(args)
    return step(*args)

  compiled = jit(counted, donate_argnums=(0, 1))
  state = tx.init(params)
  for i, task in enumerate((0, 0, 1)):
    batch = problem.make_batch(i, 8, i)
    params, state = compiled(params, state, batch, jnp.int32(task))
  chex.assert_tree_all_finite(params)
  assert len(traces) == 1


@each
def test_map_params(method):
  params, tx = problem.init_params(), method.chain()
  state = tx.init(params)
  same = optax.tree.map_params(tx, lambda x: x, state)
  assert tree.digest(same) == tree.digest(state)
  outer = optax.tree.map_params(
    tx, lambda _: 'p', state, transform_non_params=lambda _: 'n'
  )
  assert jax.tree.structure(outer) == jax.tree.structure(state)
  for memory in tree.get_states(outer, methods.MemoryState):
    assert set(jax.tree.leaves(memory)) == {'n'}


@each
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_keeps_dtypes_and_structure(method, dtype):
  params, tx = problem.init_params(0, dtype), method.chain()
  state = tx.init(params)
  extras = problem.extra_args(params, problem.make_batch())
  grads = extras['grad_fn'](params, extras['batch'])
  update = lambda state: tx.update(grads, state, params, **extras)
  updates, new = jax.eval_shape(update, state)
  assert kinds(updates) == kinds(params)
  assert kinds(new) == kinds(state)
  # What scan and cond ask: the state of before and after are of one type.
  skip = lambda state: (jax.tree.map(jnp.zeros_like, grads), state)
  jax.eval_shape(
    lambda ok, state: jax.lax.cond(ok, update, skip, state), True, state
  )


@each
def test_a_step_that_is_not_finite_never_happened(method):
  # The bad step is the first of a task, which must be noticed at the next.
  bad, tx = 3, method.chain()
  insert = lambda x: jnp.insert(x, bad, x[bad], axis=0)
  batches = jax.tree.map(insert, stack_of_batches())
  batches['inputs'] = batches['inputs'].at[bad].set(jnp.nan)
  guarded, params = optax.apply_if_finite(tx, 5), problem.init_params()
  tasks = insert(jnp.array(TASKS, jnp.int32))
  with_it = jit(functools.partial(run, guarded))(
    params, guarded.init(params), batches, tasks
  )
  without = compiled_run(method)(params, tx.init(params), stack_of_batches())
  assert int(with_it[1].total_notfinite) == 1
  close((with_it[0], with_it[1].inner_state), without)


@each
def test_accumulated_steps_notice_a_task_that_began_between(method):
  # Tasks change at steps 3 and 6; of every two steps the second counts.
  params, tx, batches = (
    problem.init_params(),
    method.chain(),
    stack_of_batches(),
  )
  multi = methods.accumulate(tx, 2)
  with_it = jit(functools.partial(run, multi))(
    params, multi.init(params), batches
  )[1].inner_opt_state

  def two_steps(carry, xs):
    (params, state), (pair, task_id) = carry, xs
    first, second = (jax.tree.map(lambda x, i=i: x[i], pair) for i in (0, 1))
    extras = problem.extra_args(params, second, task_id)
    grads = [extras['grad_fn'](params, part) for part in (first, second)]
    grads = jax.tree.map(lambda a, b: (a + b) / 2, *grads)
    updates, state = tx.update(grads, state, params, **extras)
    return (optax.apply_updates(params, updates), state), None

  pairs = jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:]), batches)
  by_hand = jit(lambda p, s, *xs: jax.lax.scan(two_steps, (p, s), xs)[0][1])(
    params, tx.init(params), pairs, jnp.array(TASKS[1::2], jnp.int32)
  )
  close(with_it, by_hand)
  restarts = method.rate and 'task_id' in method.needs
  own_clocks = METHODS['accumulate'], METHODS['with_task_experts']
  if restarts and method not in own_clocks:
    # Four accumulated steps, in tasks 0, 1, 1, 0: the rate has started anew.
    rate, count = methods.applied_rate(with_it)
    assert (float(rate), int(count)) == (np.float32(0.2), 4)


@each
def test_devices_agree(method):
  params, tx, batches = (
    problem.init_params(),
    method.chain(),
    stack_of_batches(),
  )
  state = tx.init(params)
  one = compiled_run(method)(params, state, batches)

  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  place = lambda x, *axes: jax.device_put(
    x, jax.NamedSharding(mesh, jax.P(*axes))
  )
  four = compiled_run(method)(
    place(params), place(state), place(batches, None, 'data')
  )
  close(four, one)

  extras = functools.partial(problem.pmap_extra_args, axis_name='data')
  step = jax.pmap(
    problem.make_step(tx, extras),
    'data',
    in_axes=(None, None, 0, None),
    out_axes=None,
  )
  split = lambda x: x.reshape(4, -1, *x.shape[1:])
  carry = params, state
  for i, task in enumerate(TASKS):
    batch = jax.tree.map(lambda x, i=i: split(x[i]), batches)
    carry = step(*carry, batch, jnp.int32(task))
  close(carry, one)


@each
def test_a_stack_of_seeds_is_single_runs(method):
  batches = stack_of_batches()

  def start(seed):
    params, tx = problem.init_params(seed), method.chain()
    reseed = lambda s: s._replace(key=jax.random.key(seed))
    state = tree.map_states(reseed, tx.init(params), methods.MemoryState)
    return params, state

  one = functools.partial(run, method.chain())
  many = jit(jax.vmap(lambda s: one(*start(s), batches)))(jnp.arange(3))
  for seed in range(3):
    single = compiled_run(method)(*start(seed), batches)
    close(jax.tree.map(lambda x, i=seed: x[i], many), single)


def test_checkpoints_are_exact(tmp_path):
  # One save for all rows.
  params, batches = problem.init_params(), stack_of_batches()
  chains = {name: method.chain() for name, method in METHODS.items()}
  create = lambda: {n: tx.init(params) for n, tx in chains.items()}
  states = {
    name: compiled_run(METHODS[name])(params, tx.init(params), batches)[1]
    for name, tx in chains.items()
  }
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  target = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    jax.eval_shape(create),
  )
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'states', states)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / 'states', target)
  assert jax.tree.structure(restored) == jax.tree.structure(states)
  assert kinds(restored) == kinds(states)
  for name, state in states.items():
    assert tree.digest(restored[name]) == tree.digest(state), name
