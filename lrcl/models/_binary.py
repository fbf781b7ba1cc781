"""Networks of binary weights whose probabilities are learnt."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lrcl import base


def binary_preactivation(
  inputs: jax.Array,
  fields: jax.Array,
  beta: Any,
  noise: jax.Array | None = None,
) -> jax.Array:
  r"""What enters the units behind a layer of binary weights.

  A weight is 1 or -1, with :math:`q(w) \propto \exp(\beta \theta w)`: its mean
  is :math:`m = \tanh(\beta \theta)`, its variance :math:`v = 1 - m^2`. The sum
  over :math:`n` inputs is close to a Gaussian, from which one number is drawn
  for each unit and example in place of all weights (local reparametrisation):

  .. math::
    z = \frac{a m}{\sqrt n} + \epsilon \sqrt{\frac{a^2 v}{n} + 10^{-30}}

  Args:
    inputs: `[batch, n]`, the :math:`a`.
    fields: `[n, features]`, the :math:`\theta`.
    beta: the inverse temperature, above 0; may be traced.
    noise: `[batch, features]`, standard normal, the :math:`\epsilon`. None for
      the mean over the weights.

  Returns:
    `[batch, features]`.

  Example:
    >>> inputs, fields = jnp.ones((1, 4)), jnp.zeros((4, 1))
    >>> print(binary_preactivation(inputs, fields, 1.0, jnp.full((1, 1), 2.0)))
    [[2.]]

  References:
    Li et al., `Statistical mechanics of continual learning: variational
    principle and mean-field potential <https://arxiv.org/abs/2212.02846>`_,
    2023; code: https://github.com/Chan-Li/VCL
  """
  mean = jnp.tanh(jnp.asarray(beta, fields.dtype) * fields)
  size = fields.shape[0]
  drift = inputs @ mean / size**0.5
  if noise is None:
    return drift
  variance = jnp.square(inputs) @ (1.0 - jnp.square(mean)) / size
  return drift + noise * jnp.sqrt(variance + 1e-30)


class BinaryDense(nn.Module):
  """A layer of binary weights, without bias; the parameter is `field`.

  Attributes:
    features: outputs.

  Example:
    >>> layer = BinaryDense(3)
    >>> params = layer.init(jax.random.key(0), jnp.ones((1, 2)), 1.0)
    >>> layer.apply(params, jnp.ones((5, 2)), 1.0).shape
    (5, 3)

  References:
    Li et al., `Statistical mechanics of continual learning: variational
    principle and mean-field potential <https://arxiv.org/abs/2212.02846>`_,
    2023
  """

  features: int

  @nn.compact
  def __call__(
    self, inputs: jax.Array, beta: Any, sample: bool = False
  ) -> jax.Array:
    """Maps `[batch, n]` to `[batch, features]`; see `binary_preactivation`.

    Args:
      inputs: the activations below.
      beta: the inverse temperature.
      sample: whether to draw noise, from the stream `dropout`.
    """
    shape = (inputs.shape[-1], self.features)
    fields = self.param('field', nn.initializers.normal(1.0), shape)
    noise = None
    if sample:
      key = self.make_rng('dropout')
      noise = jax.random.normal(key, (inputs.shape[0], self.features))
    return binary_preactivation(inputs, fields, beta, noise)


class BinaryMLP(nn.Module):
  """A perceptron of `BinaryDense` layers with rectified units.

  While it trains it draws noise; else it predicts by the mean over weights in
  each layer. `sample_binary` draws weights to predict with.

  A `beta` that is a schedule needs a clock: the model keeps the number of
  training steps in its state (the collection `clock`) and evaluates at the
  present one. `lrcl.methods.metaplastic_kl` with the same schedule counts the
  same steps.

  Attributes:
    features: widths of the hidden layers.
    num_classes: width of the output.
    beta: the inverse temperature, a number or a function of the step.

  Example:
    >>> from lrcl import models
    >>> init_fn, apply_fn = models.from_module(
    ...   BinaryMLP((8,), 3, beta=lambda step: 1.0 + step), jnp.ones((1, 4))
    ... )
    >>> params, state = init_fn(jax.random.key(0))
    >>> logits, state = apply_fn(
    ...   params,
    ...   jnp.ones((5, 4)),
    ...   rng=jax.random.key(1),
    ...   model_state=state,
    ...   train=True,
    ... )
    >>> logits.shape, int(state['clock']['step'])
    ((5, 3), 1)

  References:
    Li et al., `Statistical mechanics of continual learning: variational
    principle and mean-field potential <https://arxiv.org/abs/2212.02846>`_,
    2023
  """

  features: Sequence[int]
  num_classes: int
  beta: Any = 1.0

  @nn.compact
  def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
    """Maps inputs `[batch, ...]` to logits `[batch, num_classes]`."""
    beta = self._beta(train)
    x = inputs.reshape(inputs.shape[0], -1).astype(jnp.float32)
    for width in self.features:
      x = nn.relu(BinaryDense(width)(x, beta, train))
    return BinaryDense(self.num_classes, name='head')(x, beta, train)

  def _beta(self, train: bool) -> Any:
    """The inverse temperature now; the clock goes on with training."""
    if not callable(self.beta):
      return self.beta
    clock = self.variable('clock', 'step', lambda: jnp.zeros([], jnp.int32))
    step: Any = clock.value
    if train and self.is_mutable_collection('clock'):
      clock.value = step + 1
    return self.beta(step)


def sample_binary(params: base.Params, beta: Any, key: jax.Array) -> Any:
  """Draws a network of weights 1 and -1.

  Args:
    params: fields, as those of `BinaryMLP`.
    beta: the inverse temperature, above 0.
    key: typed PRNG key.

  Returns:
    Fields of infinite size with the signs of the weights: the same model
    predicts with these weights, at any `beta`. Not to be trained.

  Example:
    >>> fields = {'field': jnp.array([-9.0, 9.0])}
    >>> print(sample_binary(fields, 2.0, jax.random.key(0))['field'])
    [-inf  inf]

  References:
    Li et al., `Statistical mechanics of continual learning: variational
    principle and mean-field potential <https://arxiv.org/abs/2212.02846>`_,
    2023
  """
  base.check_value('sample_binary', 'beta', beta, above=0)
  leaves, treedef = jax.tree.flatten(params)
  keys = jax.random.split(key, max(len(leaves), 1))

  def draw(key, field):
    chance = jax.nn.sigmoid(2.0 * jnp.asarray(beta, field.dtype) * field)
    up = jax.random.uniform(key, field.shape) < chance
    return jnp.where(up, jnp.inf, -jnp.inf).astype(field.dtype)

  return treedef.unflatten(list(map(draw, keys, leaves)))


def binary_kl(fields: Any, anchor: Any, beta: Any) -> jax.Array:
  r"""How far the weights' distribution is from another one, in nats.

  :math:`\mathrm{KL}(q_\theta \| q_{\theta^*}) = \sum_i \beta (\theta_i -
  \theta^*_i) m_i - \log \cosh \beta \theta_i + \log \cosh \beta \theta^*_i`.
  Near the anchor it is :math:`\frac12 \sum_i \beta^2 (1 - m_i^2) (\theta_i -
  \theta^*_i)^2`, the penalty of EWC with the Fisher :math:`\beta^2 (1 - m^2)`;
  `lrcl.methods.metaplastic_kl` is its gradient.

  Args:
    fields: a tree.
    anchor: a tree like it.
    beta: the inverse temperature.

  Returns:
    float32 scalar.

  Example:
    >>> print(binary_kl(jnp.zeros(2), jnp.zeros(2), 3.0))
    0.0

  References:
    Li et al., `Statistical mechanics of continual learning: variational
    principle and mean-field potential <https://arxiv.org/abs/2212.02846>`_,
    2023
  """
  log_cosh = lambda x: jnp.logaddexp(x, -x) - jnp.log(2.0)

  def leaf(field, other):
    x, y = beta * field, beta * other
    return jnp.sum((x - y) * jnp.tanh(x) - log_cosh(x) + log_cosh(y))

  return jax.tree.reduce(jnp.add, jax.tree.map(leaf, fields, anchor))
