"""The command line: what is wrong with it, in one line."""

from collections.abc import Iterator, Mapping, Sequence
import difflib
import pathlib
import re
import runpy
import sys
from typing import Any

from absl import flags


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a mistake in them is one line and exit code 1."""
  path = _config_file(argv)
  if path and not path.is_file():
    sys.exit(
      f'error: --config={path} is not there; the configurations are the files '
      'of experiments/configs/.'
    )
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError, TypeError) as error:
    sys.exit(f'error: {_unknown_field(argv) or one_line(error)}')
  except (flags.Error, ValueError) as error:
    sys.exit(f'error: {one_line(error)}')
  except (OSError, SyntaxError, ImportError) as error:
    sys.exit(f'error: the config does not load: {one_line(error)}')


def one_line(error: BaseException) -> str:
  """An error's text in one line; of a traceback in it, the last line."""
  text = str(error).strip()
  if 'Traceback' in text:
    text = text.splitlines()[-1]
  return ' '.join(text.split())


def _config_file(argv: Sequence[str]) -> pathlib.Path | None:
  """The file that `--config` names, without its argument."""
  for flag, value in _values(argv):
    if flag == 'config':
      return pathlib.Path(value.partition(':')[0])
  return None


def _values(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
  """Every `--flag=value`, and `--flag value`, of the command line."""
  for argument, following in zip(argv, [*argv[1:], ''], strict=True):
    match = re.fullmatch(r'--?([\w.]+)(?:=(.*))?', argument, re.DOTALL)
    if match:
      yield match[1], following if match[2] is None else match[2]


def _unknown_field(argv: Sequence[str]) -> str | None:
  """Says which override names a field that the configuration lacks."""
  given = dict(_values(argv))
  path, _, argument = given['config'].partition(':')
  make = runpy.run_path(path)['get_config']
  config = make(argument) if argument else make()
  for flag in given:
    if flag.startswith('config.'):
      node, names = config.to_dict(), flag.split('.')[1:]
      for depth, name in enumerate(names):
        if not isinstance(node, Mapping) or name not in node:
          return _describe(flag, '.'.join(names[:depth]), name, node)
        node = node[name]
  return None


def _describe(flag: str, parent: str, name: str, node: Any) -> str:
  where = f'{parent!r}' if parent else 'the configuration'
  if not isinstance(node, Mapping):
    return f'--{flag}: {where} is {node!r} and has no fields.'
  close = difflib.get_close_matches(name, node, 1)
  hint = (
    f'did you mean {close[0]!r}?' if close else f'it has {", ".join(node)}.'
  )
  return f'--{flag}: {where} has no field {name!r}; {hint}'
