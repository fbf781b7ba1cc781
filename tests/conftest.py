"""One strict JAX for all tests: four CPU devices, no silent promotion."""

import gc
import itertools
import os
import pathlib
import tempfile

# Before jax is imported: a pool of two threads lets the collectives of four
# virtual devices wait for one another for ever.
os.environ.setdefault('NPROC', '32')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('MPLBACKEND', 'agg')

import jax
import pytest

_CACHE = pathlib.Path(tempfile.gettempdir()) / f'lrcl-tests-{os.getuid()}'
jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_compilation_cache_dir', str(_CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


_MAPS = pathlib.Path('/proc/self/maps')
_MOST_MAPS = 25_000
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs():
  """Lets go of compiled programs before there are too many of them.

  On Linux each one takes some of the memory maps of its process, of which the
  kernel allows 65,530; beyond, XLA's next compilation is a segmentation fault.
  """
  yield
  if next(_tests) % 20 or not _MAPS.exists():
    return
  if _MAPS.read_bytes().count(b'\n') > _MOST_MAPS:
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def key() -> jax.Array:
  return jax.random.key(0)
