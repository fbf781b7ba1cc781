"""Sparse networks side by side: nothing of an earlier task ever moves."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrcl import methods, metrics, models, streams, training, tree
from lrcl.methods import _sparse_masks

SHAPES = {'a': (20, 30), 'b': (3, 3, 4, 8)}

QUICK = {'xla_backend_optimization_level': 0}


def make_params(seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  draw = lambda shape: jnp.asarray(rng.normal(size=shape), dtype)
  return {**{k: draw(s) for k, s in SHAPES.items()}, 'bias': draw(10)}


def run(tx, tasks, seed=0, dtype=jnp.float32):
  """Points after each update, states, and the gradients, which are random."""
  params = make_params(seed, dtype)
  update = jax.jit(tx.update, compiler_options=QUICK)
  state, points, states, gradients = tx.init(params), [], [], []
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam
    for i, task in enumerate(tasks):
      gradients.append(make_params(100 + i, dtype))
      task_id = jnp.int32(task)
      updates, state = update(gradients[-1], state, params, task_id=task_id)
      params = optax.apply_updates(params, updates)
      points.append(params)
      states.append(state)
  return points, states, gradients


def sizes(masks):
  return {k: int(m.sum()) for k, m in masks.items() if not tree.is_masked(m)}


def drop_and_grow(inner=None, density=0.2, **kwargs):
  kwargs = {'tasks': 3, 'death_rate': 0.3, 'every': 2} | kwargs
  return methods.drop_and_grow(inner or optax.sgd(0.1), density, **kwargs)


@pytest.mark.parametrize('density', [0.02, 0.1, 0.3, 0.7, 1.0])
def test_erk_is_an_independent_solve(density):
  shapes = {'a': (20, 30), 'b': (30, 10), 'c': (3, 3, 4, 8), 'bias': (9,)}
  shape = lambda s: jax.ShapeDtypeStruct(s, jnp.float32)
  params = {name: shape(s) for name, s in shapes.items()}
  found = methods.sparse_densities(params, density)
  shapes.pop('bias')
  raw = {k: sum(s) / np.prod(s) for k, s in shapes.items()}
  total = density * sum(np.prod(s) for s in shapes.values())
  low, high = 0.0, 1e6
  for _ in range(200):  # bisection: the sum of capped shares grows with epsilon
    middle = (low + high) / 2
    kept = sum(min(1, middle * raw[k]) * np.prod(shapes[k]) for k in raw)
    low, high = (middle, high) if kept < total else (low, middle)
  want = {k: min(1.0, low * raw[k]) for k in raw}
  assert tree.is_masked(found.pop('bias'))
  for name, share in found.items():
    np.testing.assert_allclose(share, want[name], rtol=1e-9)
  assert (max(found.values()) == 1.0) == (density > 0.5)


def test_uniform_densities():
  found = methods.sparse_densities(make_params(), 0.2, kind='uniform')
  assert {found[k] for k in SHAPES} == {0.2}


@pytest.mark.parametrize(
  ('init', 'grow'), [('erk', 'gradient'), ('uniform', 'unfired')]
)
def test_density_is_exact_at_every_step(init, grow):
  tx = drop_and_grow(init=init, grow=grow)
  points, states, _ = run(tx, [0] * 7 + [1] * 5)
  shares = methods.sparse_densities(make_params(), 0.2, kind=init)
  want = {k: round(shares[k] * np.prod(s)) for k, s in SHAPES.items()}
  masks = [s.mask for s in states]
  assert all(sizes(m) == want for m in masks)
  for point, mask in zip(points, masks, strict=True):
    for name in SHAPES:  # the parameters are those of the task
      assert not np.any(np.asarray(point[name])[~np.asarray(mask[name])])
  moved = [
    any(np.any(a[k] != b[k]) for k in SHAPES)
    for a, b in itertools.pairwise(masks)
  ]
  assert [i + 1 for i, m in enumerate(moved) if m] == [2, 4, 6, 7, 9, 11]


@pytest.mark.parametrize('drop', ['magnitude', 'signed', 'taylor'])
def test_what_leaves_is_that_of_the_least_score(drop):
  tx = drop_and_grow(drop=drop, grow='random', isolate=False)
  points, states, gradients = run(tx, [0] * 3)
  before, after = states[1].mask, states[2].mask
  for name in SHAPES:
    old, new = np.asarray(before[name]), np.asarray(after[name])
    gone = old & ~new  # what left and did not come back
    step = np.where(old, -0.1 * np.asarray(gradients[2][name]), 0)
    values = np.asarray(points[1][name]) + step
    score = np.abs(values)
    if drop == 'taylor':
      score = score * np.abs(np.asarray(gradients[2][name]))
    groups = [old]
    if drop == 'signed':
      groups = [old & (values >= 0), old & (values < 0)]
    for group in groups:
      count = int(np.floor(np.float32(0.3) * np.float32(group.sum())))
      least = np.sort(score[group])[:count]
      assert gone.any() and score[gone & group].max() <= least[-1] * (1 + 1e-5)
      stayed = group & np.asarray(points[2][name] != 0)
      assert stayed.sum() == group.sum() - count


@pytest.mark.parametrize('grow', ['gradient', 'momentum'])
def test_what_comes_in_has_the_steepest_gradient_and_starts_at_zero(grow):
  points, states, gradients = run(drop_and_grow(grow=grow), [0] * 3)
  slope = gradients[2]
  if grow == 'momentum':
    fade = lambda *g: 0.1 * (0.81 * g[0] + 0.9 * g[1] + g[2])
    slope = jax.tree.map(fade, *gradients)
  for name in SHAPES:
    old, new = (
      np.asarray(states[1].mask[name]),
      np.asarray(states[2].mask[name]),
    )
    grown = new & ~old
    assert grown.any() and not np.any(np.asarray(points[2][name])[grown])
    size = np.abs(np.asarray(slope[name]))
    assert size[grown].min() >= size[~old & ~new].max()


def test_unfired_entries_come_first():
  tx = drop_and_grow(density=0.4, grow='unfired', every=1, init='uniform')
  _, states, _ = run(tx, [0] * 12)
  for name in SHAPES:
    masks = [np.asarray(s.mask[name]) for s in states]
    fired = masks[0]
    for old, new in itertools.pairwise(masks):
      fresh, unused = new & ~old, ~fired
      room = min(fresh.sum(), unused.sum())
      assert (fresh & unused).sum() == room
      fired = fired | new
    assert fired.all()


OPTIMIZERS = {
  'momentum': optax.sgd(0.1, momentum=0.9),
  'adamw': optax.adamw(0.05, weight_decay=0.1),
}


@pytest.mark.parametrize(
  ('name', 'dtype'), [('momentum', jnp.bfloat16), ('adamw', jnp.float32)]
)
def test_no_earlier_network_moves_by_a_bit(name, dtype):
  tasks = [0] * 6 + [1] * 5 + [2] * 7
  tx = drop_and_grow(OPTIMIZERS[name], density=0.4, grow='random')
  points, states, _ = run(tx, tasks, dtype=dtype)
  for task, end in ((0, 5), (1, 10)):
    for point, state in zip(points[end:], states[end:], strict=True):
      kept = methods.params_of_task(state, point, task)
      assert tree.digest(kept) == tree.digest(points[end])
  shared = [int((s & m).sum()) for s, m in _pairs(states[-1].masks)]
  assert min(shared) > 0  # networks overlap, so that there is something to hold
  assert np.any(points[-1]['bias'] != points[10]['bias'])


def _pairs(masks):
  return [(masks[k][0], masks[k][1]) for k in SHAPES]


def test_without_isolation_tasks_write_over_each_other():
  tx = drop_and_grow(density=0.4, isolate=False)
  points, states, _ = run(tx, [0] * 6 + [1] * 5)
  kept = methods.params_of_task(states[-1], points[-1], 0)
  assert all(np.any(kept[k] != points[5][k]) for k in SHAPES)


def test_a_task_begins_with_what_the_dense_network_has():
  start = make_params()
  points, states, _ = run(drop_and_grow(), [0] * 4 + [1])
  for name in SHAPES:
    mask, kept = np.asarray(states[4].mask[name]), np.asarray(points[3][name])
    own = np.asarray(states[3].mask[name])
    want = np.where(mask, np.where(own, kept, start[name]), 0)
    np.testing.assert_array_equal(points[4][name], want)
  np.testing.assert_array_equal(points[4]['bias'], points[3]['bias'])


def test_a_task_that_comes_back_finds_its_network():
  points, states, _ = run(
    drop_and_grow(density=0.4), [0] * 4 + [1] * 4 + [0] * 3
  )
  for name in SHAPES:
    np.testing.assert_array_equal(points[8][name], points[3][name])
    moved = np.asarray(points[9][name] != points[8][name])
    own, others = states[9].mask[name], states[9].masks[name][1]
    np.testing.assert_array_equal(moved, own & ~others)
  kept = methods.params_of_task(states[-1], points[-1], 1)
  jax.tree.map(np.testing.assert_array_equal, kept, points[7])


def test_the_rate_of_exchange_follows_its_schedule():
  schedule = optax.cosine_decay_schedule(0.5, 8, alpha=0.01)
  tx = drop_and_grow(death_rate=schedule, grow='unfired', density=0.05)
  _, states, _ = run(tx, [0] * 9)
  total = sum(sizes(states[0].mask).values())
  for step in (2, 4, 6, 8):
    old, new = states[step - 1].mask, states[step].mask
    count = sum(int((new[k] & ~old[k]).sum()) for k in SHAPES)
    want = total * float(schedule(step))
    assert want - len(SHAPES) <= count <= want


def test_backward_transfer_is_zero_in_a_task_incremental_run():
  train, test = streams.digits()
  stream = streams.split(
    train,
    num_tasks=5,
    batch_size=16,
    steps_per_task=40,
    scenario='task',
    test=test,
  )
  init_fn, apply_fn = models.from_module(
    models.MLP((24,), stream.num_classes), train['inputs'][:1]
  )
  inner = optax.chain(
    optax.scale_by_adam(),
    optax.add_decayed_weights(0.01),
    methods.scale_by_schedule_value(0.02),
  )
  tx = drop_and_grow(inner, density=0.3, tasks=5, every=8)
  learner = training.Learner(
    tx,
    apply_fn,
    eval_params=lambda state, task: methods.params_of_task(
      state.opt_state, state.params, task
    ),
  )
  state = training.create_state(init_fn, tx, jax.random.key(0))
  evaluate = training.make_evaluator(learner, stream)
  with jax.numpy_dtype_promotion('standard'):
    _, records = training.train_stream(
      learner, state, stream, evaluate=evaluate
    )
  matrix = np.array([r['metrics']['accuracy'] for r in records])
  assert metrics.backward_transfer(matrix) == 0.0
  assert np.diag(matrix).min() > 0.85
  plain = training.Learner(inner, apply_fn)
  state = training.create_state(init_fn, inner, jax.random.key(0))
  evaluate = training.make_evaluator(plain, stream)
  with jax.numpy_dtype_promotion('standard'):
    _, records = training.train_stream(plain, state, stream, evaluate=evaluate)
  matrix = np.array([r['metrics']['accuracy'] for r in records])
  assert metrics.backward_transfer(matrix) != 0.0


def test_equal_scores_do_not_change_the_number():
  mask = jnp.arange(12) < 6
  exchange = _sparse_masks.Exchange('magnitude', 'gradient')
  same = functools.partial(jnp.full, 12)
  new, kept = exchange(
    mask, same(1.0), same(1.0), None, jnp.float32(0.5), jax.random.key(0)
  )
  assert (int(new.sum()), int(kept.sum())) == (6, 3)


@pytest.mark.parametrize(
  ('kwargs', 'match'),
  [
    ({'density': 0.0}, 'density is 0.0; it must be > 0'),
    ({'tasks': 0}, 'tasks is 0'),
    ({'every': 0}, 'every is 0'),
    ({'death_rate': 1.5}, 'death_rate is 1.5; it must be <= 1'),
    ({'drop': 'all'}, "drop is 'all'; it must be one of"),
    ({'grow': 'all'}, "grow is 'all'; it must be one of"),
  ],
)
def test_constructor_errors(kwargs, match):
  with pytest.raises(ValueError, match=match):
    drop_and_grow(**kwargs)


def test_errors():
  params = {'a': jnp.ones((2, 2))}
  with pytest.raises(ValueError, match="kind is 'no'"):
    methods.sparse_densities(params, 0.5, kind='no')  # pyright: ignore
  with pytest.raises(ValueError, match='matches none'):
    drop_and_grow(mask=tree.path_mask('no')).init(params)
  with pytest.raises(ValueError, match='no drop_and_grow'):
    methods.params_of_task(optax.sgd(0.1).init(params), params, 0)
  tx = drop_and_grow()
  with pytest.raises(ValueError, match='params is None'):
    tx.update(params, tx.init(params), task_id=0)


@pytest.mark.parametrize('kind', ['normal', 'ties', 'inf', 'zeros', 'nan'])
@pytest.mark.parametrize('size', [1, 7, 33])
def test_the_lowest_are_those_of_a_stable_sort(kind, size):
  rng = np.random.default_rng(size)
  score = rng.normal(size=size).astype(np.float32)
  if kind == 'ties':
    score = rng.integers(-2, 3, size).astype(np.float32)
  if kind in ('inf', 'nan'):
    rare = np.float32(kind)
    score = np.where(rng.random(size) < 0.4, rare, score)
  if kind == 'zeros':
    score = np.where(rng.random(size) < 0.5, np.float32(-0.0), np.float32(0.0))
  order = np.argsort(score, kind='stable')
  for count in (0, 1, size // 2, size):
    wanted = np.zeros(size, bool)
    wanted[order[:count]] = True
    found = _sparse_masks._lowest(jnp.asarray(score), count)
    np.testing.assert_array_equal(found, wanted)
