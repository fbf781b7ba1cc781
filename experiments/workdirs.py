"""A work directory belongs to one configuration and to one process."""

from collections.abc import Iterator, Mapping
import contextlib
import fcntl
import json
import pathlib
from typing import Any

from lrcl import training

_FREE = ('branch', 'only', 'digest', 'workdir')  # not what the run is
_LISTS = {
  'seeds': (int, 'whole numbers'),
  'only': (str, 'names of rows'),
  'references': (str, 'names of references'),
}
_OWN = ('lock', 'config.json.part')  # a kill may leave these before the rest


def plain(config: Any) -> dict[str, Any]:
  """The configuration as plain dicts, lists and numbers, with its digest.

  Raises:
    ValueError: if a list holds what it must not; other types are checked when
      they are parsed.
  """
  config = json.loads(config.to_json_best_effort())
  for field, (kind, noun) in _LISTS.items():
    for value in config.get(field, ()):
      if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f'{field} holds {value!r}; it must hold {noun}.')
  if 'seeds' in config:
    _check_seeds(config['seeds'])
  return {**config, 'digest': training.digest_config(_identity(config))}


def _check_seeds(seeds: list[int]) -> None:
  if not seeds:
    raise ValueError('seeds is empty; it must hold one whole number per run.')
  for seed in seeds:
    if seed < 0:
      raise ValueError(f'seeds holds {seed}; it must be >= 0.')
    if seeds.count(seed) > 1:
      raise ValueError(f'seeds holds {seed} twice; each run needs its own.')


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
  return {k: v for k, v in config.items() if k not in _FREE}


def check(config: Mapping[str, Any], workdir: str) -> None:
  """Refuses a directory that holds anything but this configuration's run.

  Raises:
    ValueError: names the first field that differs.
  """
  root = pathlib.Path(workdir)
  path = root / 'config.json'
  if not path.exists():
    if root.exists() and not root.is_dir():
      raise ValueError(f'--workdir={workdir} is not a directory.')
    files = root.iterdir() if root.exists() else ()
    found = [path for path in files if path.name not in _OWN]
    if found:
      raise ValueError(
        f'--workdir={workdir} holds other files ({found[0].name}); take an '
        'empty or a new directory.'
      )
    return
  old, new = _flat(json.loads(path.read_text())), _flat(_identity(config))
  for field in sorted({*old, *new}):
    if old.get(field) != new.get(field):
      raise ValueError(
        f'--workdir={workdir} holds the run of another configuration: its '
        f'{field} is {old.get(field)}, now {new.get(field)}; take another '
        'directory, or the same configuration to go on.'
      )


@contextlib.contextmanager
def claim(config: Mapping[str, Any], workdir: str) -> Iterator[pathlib.Path]:
  """Holds the directory for this process; writes `config.json` if it is new.

  Raises:
    ValueError: if it holds another run, or another process trains in it.
  """
  check(config, workdir)
  root = pathlib.Path(workdir)
  root.mkdir(parents=True, exist_ok=True)
  with (root / 'lock').open('w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
        f'another process trains in --workdir={workdir}; wait for it, or take '
        'another directory.'
      ) from None
    check(config, workdir)  # once more: another process may have come first
    if not (root / 'config.json').exists():
      part = root / 'config.json.part'
      part.write_text(json.dumps(_identity(config), indent=1))
      part.replace(root / 'config.json')
    yield root


def _flat(config: Any, prefix: str = '') -> dict[str, Any]:
  """`{'a.b': value}` of nested dicts."""
  if not isinstance(config, dict):
    return {prefix: config}
  fields = {}
  for name, value in config.items():
    fields |= _flat(value, f'{prefix}.{name}' if prefix else name)
  return fields
