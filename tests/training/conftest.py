"""Optax's Adam raises a float to an integer count, which `strict` refuses."""

import jax
import pytest


@pytest.fixture(autouse=True)
def standard_promotion():
  with jax.numpy_dtype_promotion('standard'):
    yield
