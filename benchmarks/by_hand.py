"""The same training in plain JAX, written for these three methods alone.

No LRCL in here: parameters as a list of matrices, one `lax.scan` per task
over row indices, data on the device and passed as an argument. It does the
arithmetic that the library does: the same network, loss, draws, reservoir,
penalty, Fisher, and it writes loss and rate at every step.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CAPACITY = 500


class Carry(NamedTuple):
  """What the scan carries; the fields a method does not use are empty."""

  params: list
  step: jax.Array
  memory: tuple = ()
  fisher: tuple = ()
  anchor: tuple = ()


def init(key, width, batch, method):
  sizes = (784, width, width, 10)
  params = []
  for fan_in, fan_out in itertools.pairwise(sizes):
    key, a, b = jax.random.split(key, 3)
    bound = fan_in**-0.5
    kernel = jax.random.uniform(
      a, (fan_in, fan_out), minval=-bound, maxval=bound
    )
    bias = jax.random.uniform(b, (fan_out,), minval=-bound, maxval=bound)
    params.append((kernel, bias))
  carry = Carry(params, jnp.int32(0))
  if method == 'replay':
    inputs = jnp.zeros((CAPACITY, 784))
    rows = (inputs, jnp.zeros(CAPACITY, jnp.int32), jnp.zeros(CAPACITY))
    memory = (*rows, jnp.int32(0), jax.random.key(1))
    carry = carry._replace(memory=memory)
  if method == 'ewc':
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    carry = carry._replace(fisher=zeros(), anchor=zeros())
  return carry


def forward(params, x):
  for kernel, bias in params[:-1]:
    x = jax.nn.relu(x @ kernel + bias)
  return x @ params[-1][0] + params[-1][1]


def losses(params, x, y):
  log_probs = jax.nn.log_softmax(forward(params, x))
  return -jnp.take_along_axis(log_probs, y[:, None], 1)[:, 0]


def loss(params, x, y, w):
  return jnp.sum(losses(params, x, y) * w) / jnp.sum(w)


def normalize(images):
  flat = images.reshape(images.shape[0], -1).astype(jnp.float32)
  return (flat / 255 - 0.2860) / 0.3530


def draw_and_insert(memory, x, y, w):
  """Rows drawn before the batch goes in, and the reservoir after it."""
  mx, my, mw, seen, key = memory
  size = x.shape[0]
  bits = jax.random.bits(key, (2 + 2 * size,), jnp.uint32)
  key = jax.random.wrap_key_data(bits[:2])
  filled = jnp.clip(seen, 1, CAPACITY).astype(jnp.uint32)
  rows = (bits[2 : 2 + size] % filled).astype(jnp.int32)
  drawn = jax.lax.optimization_barrier((mx[rows], my[rows], mw[rows]))
  valid, order = w > 0, jnp.arange(size)
  rank = seen + jnp.cumsum(valid, dtype=jnp.int32) - 1
  slot = (bits[2 + size :] % (rank + 1).astype(jnp.uint32)).astype(jnp.int32)
  slot = jnp.where(rank < CAPACITY, rank, slot)
  slot = jnp.where(valid, slot, CAPACITY)
  later = (slot[:, None] == slot) & (order[:, None] < order)
  slot = jnp.where(later.any(1), CAPACITY, slot)
  # the write waits for the read: else all of the memory is copied
  byte = drawn[0].reshape(-1)[:1].view(jnp.uint8)[0]
  slot = slot + (jax.lax.population_count(byte) >> 4).astype(jnp.int32)
  put = lambda a, b: a.at[slot].set(b, mode='drop')
  seen = seen + jnp.sum(valid, dtype=jnp.int32)
  return drawn, (put(mx, x), put(my, y), put(mw, w), seen, key)


@functools.partial(jax.jit, static_argnames='method', donate_argnums=0)
def train(carry, data, indices, weights, rate, strength, method):
  """One task: `indices` and `weights` are `[steps, batch]`."""

  def step(carry, xs):
    rows, w = xs
    x, y = normalize(data['inputs'][rows]), data['labels'][rows]
    value, grads = jax.value_and_grad(loss)(carry.params, x, y, w)
    if method == 'replay':
      ready = carry.memory[3] > 0
      drawn, memory = draw_and_insert(carry.memory, x, y, w)
      more = jax.grad(loss)(carry.params, *drawn)
      add = lambda g, m: g + jnp.where(ready, m, 0)
      grads = jax.tree.map(add, grads, more)
      carry = carry._replace(memory=memory)
    if method == 'ewc':
      penalty = lambda g, f, p, a: g + strength * f * (p - a)
      grads = jax.tree.map(
        penalty, grads, carry.fisher, carry.params, carry.anchor
      )
    params = jax.tree.map(lambda p, g: p - rate * g, carry.params, grads)
    return carry._replace(params=params, step=carry.step + 1), (value, rate)

  return jax.lax.scan(step, carry, (indices, weights))


@functools.partial(jax.jit, donate_argnums=0)
def consolidate(carry, data, indices, weights):
  """Adds the empirical Fisher of a task, and moves the anchor."""
  params = carry.params

  def one(total, xs):
    rows, w = xs
    x, y = normalize(data['inputs'][rows]), data['labels'][rows]
    inputs = []

    def probed(probes):
      h = x
      inputs.clear()
      for i, ((kernel, bias), probe) in enumerate(
        zip(params, probes, strict=True)
      ):
        inputs.append(h)
        h = h @ kernel + bias + probe
        h = jax.nn.relu(h) if i < len(params) - 1 else h
      log_probs = jax.nn.log_softmax(h)
      picked = jnp.take_along_axis(log_probs, y[:, None], 1)
      return jnp.sum(picked), list(inputs)

    zeros = [jnp.zeros((x.shape[0], k.shape[1])) for k, _ in params]
    (_, activations), cotangents = jax.value_and_grad(probed, has_aux=True)(
      zeros
    )
    squares = []
    for a, d in zip(activations, cotangents, strict=True):
      d = d * d * w[:, None]
      squares.append(((a * a).T @ d, d.sum(0)))
    return jax.tree.map(jnp.add, total, squares), None

  zero = jax.tree.map(jnp.zeros_like, params)
  total, _ = jax.lax.scan(one, zero, (indices, weights))
  new = jax.tree.map(lambda t: t / jnp.sum(weights), total)
  fisher = jax.tree.map(jnp.add, carry.fisher, new)

  def centre(old, new, both, anchor, p):
    mean = (old * anchor + new * p) / jnp.where(both > 0, both, 1)
    return jnp.where(both > 0, mean, p)

  anchor = jax.tree.map(centre, carry.fisher, new, fisher, carry.anchor, params)
  return carry._replace(fisher=fisher, anchor=anchor)


def tasks_of(stream):
  """Per task: its steps' rows and weights, and all its rows and weights."""
  edges = (0, *stream.boundaries, stream.num_steps)
  tasks = []
  for task, (a, b) in enumerate(itertools.pairwise(edges)):
    chunk = stream.chunk(a, b - a)
    whole = stream.task_batches(task, stream.batch_size)
    tasks.append((chunk.indices, chunk.weights, *whole))
  return tasks


def run(setting, method, data, tasks, strength):
  """All tasks; returns the losses and rates of every step as numpy."""
  width, batch = setting.width, setting.batch_size
  carry = init(jax.random.key(0), width, batch, method)
  rate, strength = jnp.float32(setting.rate), jnp.float32(strength)
  traces = []
  for number, (indices, weights, whole, whole_weights) in enumerate(tasks):
    carry, trace = train(carry, data, indices, weights, rate, strength, method)
    traces.append(jax.device_get(trace))
    if method == 'ewc' and number < len(tasks) - 1:
      carry = consolidate(carry, data, whole, whole_weights)
  jax.block_until_ready(carry.params)
  return carry, np.concatenate([t[0] for t in traces])
