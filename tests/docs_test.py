"""What is written is true: examples run, names resolve, pages are in place."""

import ast
import doctest
import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys

import jax
import jupytext
import nbformat
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_MODULES = sorted(
  '.'.join(file.relative_to(_ROOT).with_suffix('').parts)
  for file in (_ROOT / 'lrcl').rglob('*.py')
)
_PACKAGES = sorted(
  '.'.join(file.parent.relative_to(_ROOT).parts)
  for file in (_ROOT / 'lrcl').rglob('__init__.py')
)
_COLABS = sorted((_ROOT / 'colabs').glob('*.py'))
_CONFIGS = sorted(
  file
  for file in (_ROOT / 'experiments' / 'configs').glob('*.py')
  if file.name != '__init__.py'
)

# Public functions that carry no idea of a paper's.
_PLUMBING = {
  'lrcl.schedules': {
    'build_schedule',
    'by_task',
    'describe_schedule',
    'per_task',
    'piecewise_linear_schedule',
  },
  'lrcl.methods': {
    'accumulate',
    'applied_rate',
    'consolidate',
    'count_passes',
    'expert_params',
    'keep_extra_args',
    'mark_pass',
    'restart_on_rate',
    'scale_by_schedule_value',
  },
  'lrcl.forecasting': {
    'curves_from_records',
    'read_curve',
    'score',
    'should_decay_now',
  },
  'lrcl.metrics': {'mean_interval'},
}


@pytest.mark.parametrize('name', _MODULES)
def test_examples(name):
  module = importlib.import_module(name.removesuffix('.__init__'))
  with jax.numpy_dtype_promotion('standard'):  # as a reader would run them
    result = doctest.testmod(
      module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
  assert result.failed == 0


def _public(package: str) -> dict[str, object]:
  """The names that a package re-exports, one by one, as `x as x`."""
  module = importlib.import_module(package)
  tree = ast.parse(inspect.getsource(module))
  imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
  names = [a.name for n in imports for a in n.names if a.asname == a.name]
  return {name: getattr(module, name) for name in names}


def _is_documented(name: str, thing: object) -> bool:
  doc = inspect.getdoc(thing) or ''
  generated = doc.startswith(f'{name}(')  # by NamedTuple or dataclass
  return bool(doc) and not generated


@pytest.mark.parametrize('package', _PACKAGES)
def test_public_names_have_docstrings(package):
  kinds = (inspect.isclass, inspect.isfunction, inspect.ismodule)
  bare = [
    name
    for name, thing in _public(package).items()
    if any(kind(thing) for kind in kinds) and not _is_documented(name, thing)
  ]
  assert bare == []


@pytest.mark.parametrize('package', _PACKAGES)
def test_public_functions_have_an_example_that_runs(package):
  without = [
    name
    for name, thing in _public(package).items()
    if inspect.isfunction(thing) and '>>>' not in (inspect.getdoc(thing) or '')
  ]
  assert without == []


@pytest.mark.parametrize('package', _PLUMBING)
def test_public_functions_give_references(package):
  names = _public(package)
  without = {
    name
    for name, thing in names.items()
    if inspect.isfunction(thing)
    and 'References:' not in (inspect.getdoc(thing) or '')
  }
  assert without <= _PLUMBING[package] <= set(names)


@pytest.mark.parametrize('package', _PACKAGES)
def test_imports_of_packages_are_explicit(package):
  source = inspect.getsource(importlib.import_module(package))
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.ImportFrom):
      assert all(a.asname == a.name for a in node.names), ast.unparse(node)


def _readme() -> str:
  file = _ROOT / 'README.md'
  if not file.exists():
    pytest.skip('README.md is not written yet')
  return file.read_text()


def test_readme_opens_with_the_two_commands():
  blocks = re.findall(r'^```\w*\n(.*?)^```', _readme(), re.M | re.S)
  fenced = [line for block in blocks for line in block.splitlines()]
  lines = [n for n in _readme().splitlines() if 'pip install -e' in n]
  assert lines[0] in fenced and lines[1] in fenced
  start = 'python3 -m venv .venv && .venv/bin/pip install -e '
  assert lines[0] == (
    f"{start}'.[experiments]' && .venv/bin/python -m experiments.main "
    '--config=experiments/configs/quickstart.py --workdir=runs/quickstart'
  )
  assert lines[1] == f"{start}'.[test]' && .venv/bin/python -m pytest"


_PAGES = [
  file
  for file in [*_ROOT.glob('*.md'), *(_ROOT / 'docs').rglob('*.md')]
  if not file.name.startswith('LICENSE')
]


@pytest.mark.parametrize('page', _PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
    if not re.match(r'[a-z]+:|#', link):
      assert (page.parent / link.partition('#')[0]).exists(), link


@pytest.mark.parametrize('page', ['BUILD.md', 'CHANGELOG.md', 'LICENSE'])
def test_pages_are_there(page):
  assert (_ROOT / page).read_text().strip()


def test_changelog_has_room_for_what_comes():
  text = (_ROOT / 'CHANGELOG.md').read_text()
  headings = re.findall(r'^## (.*)$', text, re.M)
  assert headings[0] == '[Unreleased]'
  kinds = {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'}
  assert set(re.findall(r'^### (.*)$', text, re.M)) <= kinds


@pytest.mark.parametrize('config', _CONFIGS, ids=lambda file: file.stem)
def test_configs_say_how_to_run_them(config):
  doc = ast.get_docstring(ast.parse(config.read_text())) or ''
  assert 'python -m experiments.main' in doc
  assert f'--config=experiments/configs/{config.name}' in doc
  assert 'Time:' in doc and 'Expected:' in doc


@pytest.mark.parametrize('source', _COLABS, ids=lambda file: file.stem)
def test_colab_and_notebook_are_one(source):
  pair = source.with_suffix('.ipynb')
  cells = lambda book: [(c.cell_type, c.source.strip()) for c in book.cells]
  notebook = nbformat.read(pair, as_version=4)
  assert cells(jupytext.read(source)) == cells(notebook)
  for cell in notebook.cells:
    assert not cell.get('outputs') and not cell.get('execution_count')


@pytest.mark.parametrize('source', _COLABS, ids=lambda file: file.stem)
def test_colab_runs(source, tmp_path):
  settings = {'LRCL_SMOKE': '1', 'PYTHONPATH': str(_ROOT)}
  done = subprocess.run(
    [sys.executable, source],
    cwd=tmp_path,  # whatever it writes is gone with the test
    env=os.environ | settings,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
