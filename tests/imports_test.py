"""Who may import whom: the floors of the package, and what importing costs."""

import ast
from collections.abc import Iterator
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_FILES = sorted((_ROOT / 'lrcl').rglob('*.py'))

_GROUND = {'base', 'tree'}
_PURE = {'schedules', 'metrics', 'models', 'losses', 'forecasting'}
_BELOW_TRAINING = _GROUND | _PURE | {'methods', 'streams'}
_ARROWS: dict[str, set[str]] = {
  'base': set(),
  'tree': {'base'},
  **{name: _GROUND for name in _PURE},
  'methods': _GROUND | {'schedules'},
  'streams': {'base'},
  'training': _BELOW_TRAINING,
  'analysis': {'base', 'tree'},
  'protocols': _GROUND | {'training', 'metrics', 'streams'},
  'reports': _GROUND | {'training', 'metrics'},
}

_NEVER = ('experiments', 'absl.flags', 'ml_collections')
_LAZY = (
  'grain',
  'matplotlib',
  'rich',
  'sklearn',
  'tensorflow',
  'tensorflow_datasets',
  'tokenizers',
)


def _imports(
  tree: ast.AST, package: str, lazy: bool = False
) -> Iterator[tuple[str, int, bool]]:
  """Yields every imported name in full, its line, and whether it is lazy.

  Lazy is what does not run at import: the body of a function and a block
  under `TYPE_CHECKING`.
  """
  for node in ast.iter_child_nodes(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, node.lineno, lazy
    elif isinstance(node, ast.ImportFrom):
      start = node.module or ''
      if node.level:
        parents = package.split('.')[: -node.level + 1 or None]
        start = '.'.join([*parents, start]).strip('.')
      for alias in node.names:
        yield f'{start}.{alias.name}', node.lineno, lazy
    else:
      function = isinstance(
        node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
      )
      typing = isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(
        node.test
      )
      yield from _imports(node, package, lazy or function or typing)


def _within(name: str, packages: tuple[str, ...]) -> bool:
  return any(name == p or name.startswith(p + '.') for p in packages)


def _faults(source: str, path: str) -> list[str]:
  """The imports in a file `path` (such as `lrcl/x/_y.py`) that may not be."""
  parts = path.removesuffix('.py').split('/')
  package = '.'.join(parts[:-1])
  home = parts[1]
  faults = []
  for name, line, lazy in _imports(ast.parse(source), package):
    where = f'{path}:{line} imports {name}'
    if _within(name, _NEVER):
      faults.append(f'{where}: never in lrcl')
    if not lazy and _within(name, _LAZY):
      faults.append(f'{where}: only inside a function')
    if home == '__init__' or not _within(name, ('lrcl',)):
      continue
    target = name.partition('.')[2].partition('.')[0]
    if target not in _ARROWS[home] | {home, '__version__'}:
      faults.append(f'{where}: {home} may not import {target or "lrcl"}')
  return faults


def _path(file: pathlib.Path) -> str:
  return file.relative_to(_ROOT).as_posix()


@pytest.mark.parametrize('file', _FILES, ids=_path)
def test_arrows(file):
  assert _faults(file.read_text(), _path(file)) == []


def test_every_subpackage_has_its_floor():
  homes = {_path(file).split('/')[1].removesuffix('.py') for file in _FILES}
  assert homes - {'__init__'} <= set(_ARROWS)


def test_floors_have_no_circle():
  placed: set[str] = set()
  while len(placed) < len(_ARROWS):
    ready = {n for n, below in _ARROWS.items() if below <= placed} - placed
    assert ready, f'a circle among {set(_ARROWS) - placed}'
    placed |= ready


@pytest.mark.parametrize(
  'path,source',
  [
    ('lrcl/base.py', 'from lrcl import tree'),
    ('lrcl/tree.py', 'import lrcl.schedules'),
    ('lrcl/schedules/_x.py', 'from lrcl.methods import accumulate'),
    ('lrcl/schedules/_x.py', 'from ..methods import accumulate'),
    ('lrcl/schedules/_x.py', 'from .. import methods'),
    ('lrcl/schedules/_x.py', 'import lrcl'),
    ('lrcl/methods/_x.py', 'def f():\n  from lrcl.training import TrainState'),
    ('lrcl/methods/_x.py', 'if True:\n  from lrcl import models'),
    ('lrcl/streams/_x.py', 'from lrcl import tree'),
    ('lrcl/reports/_x.py', 'from lrcl import streams'),
    ('lrcl/training/_x.py', 'def f():\n  from experiments import run'),
    ('lrcl/training/_x.py', 'from absl import flags'),
    ('lrcl/training/_x.py', 'import ml_collections'),
    ('lrcl/training/_x.py', 'import rich.progress'),
    ('lrcl/__init__.py', 'from matplotlib import pyplot'),
    ('lrcl/streams/_x.py', 'class A:\n  import tensorflow_datasets as tfds'),
    ('lrcl/streams/_x.py', 'try:\n  import grain\nexcept ImportError: pass'),
  ],
)
def test_a_bad_import_is_found(path, source):
  assert len(_faults(source, path)) == 1


@pytest.mark.parametrize(
  'path,source',
  [
    ('lrcl/methods/_x.py', 'from lrcl.methods._y import f'),
    ('lrcl/methods/_x.py', 'from ._y import f\nfrom lrcl import tree as t'),
    ('lrcl/methods/_x.py', 'from lrcl.schedules import wsd_schedule'),
    ('lrcl/training/_x.py', 'from lrcl import __version__\nimport lrcl.tree'),
    ('lrcl/training/_x.py', 'def f():\n  import rich'),
    ('lrcl/training/_x.py', 'from absl import logging\nimport grainy'),
    ('lrcl/__init__.py', 'from lrcl.training import TrainState as TrainState'),
    (
      'lrcl/streams/_x.py',
      'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import grain',
    ),
  ],
)
def test_a_good_import_passes(path, source):
  assert _faults(source, path) == []


_PACKAGES = sorted(
  '.'.join(file.parent.relative_to(_ROOT).parts)
  for file in _FILES
  if file.name == '__init__.py'
)

# The number of CPU devices can be set only until a backend starts: the last
# line raises if an import has touched a device. What flax or orbax import on
# their own is not held against us.
_COLD = """
import importlib, sys
import chex, flax.linen, jax, optax, orbax.checkpoint
lazy = {lazy!r}
before = {{name for name in lazy if name in sys.modules}}
for name in {packages!r}:
  importlib.import_module(name)
{extra}
found = {{name for name in lazy if name in sys.modules}} - before
assert not found, found
jax.config.update('jax_num_cpu_devices', 2)
"""


def _import_all(extra: str = '') -> subprocess.CompletedProcess[str]:
  code = _COLD.format(lazy=_LAZY, packages=_PACKAGES, extra=extra)
  return subprocess.run(
    [sys.executable, '-c', code], cwd=_ROOT, capture_output=True, text=True
  )


def test_importing_everything_is_light_and_touches_no_device():
  done = _import_all()
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('extra', ['import sklearn', 'jax.numpy.ones(1)'])
def test_a_heavy_import_or_a_device_is_noticed(extra):
  assert _import_all(extra).returncode != 0
