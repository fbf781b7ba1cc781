"""Images side by side with what a pretrained network makes of them.

  python -m experiments.papers.feature_sets --data_dir=DEST

computes the features of MNIST and Fashion-MNIST that the claims take, in some
two CPU minutes, unless it has been done; so that no claim pays for them.
"""

import argparse
import itertools
import os
from typing import NamedTuple

import numpy as np

from experiments.papers import backbone, images
from experiments.papers.images import Images

SIZE = 112
"""Pixels that the images are scaled to; more of them cost more and gain little:
of 1,000 images of Fashion-MNIST, a ridge head on the features of 2,000 knows
81% at 56, 85% at 112 and 87% at 224, for 2, 6 and 23 CPU milliseconds each."""

RANDOM = 256
"""Random features that stand in for the backbone where only digits are."""


class FeatureSet(NamedTuple):
  """Rows to train on, to choose on and to test on, equally many per class.

  Attributes:
    pixels: `train` and `test`.
    choice: `train` again, and as `test` other rows of the training split.
    features: of `pixels`, in the same order.
    features_choice: of `choice`.
    trunk: in front of the backbone's last convolution, `train` and `test`.
    cost: what the features cost, in words.
  """

  pixels: Images
  choice: Images
  features: Images
  features_choice: Images
  trunk: Images
  cost: str


def load(
  name: images.Name,
  data_dir: str | os.PathLike | None,
  *,
  per_class: int = 600,
  choice_per_class: int = 200,
  test_per_class: int = 200,
) -> FeatureSet:
  """Loads a set of images and their features.

  Args:
    name: of the set. For digits, random features stand in for the backbone's.
    data_dir: of the images and of the weights.
    per_class: rows to train on.
    choice_per_class: rows to choose hyper-parameters on.
    test_per_class: rows to test on.

  Raises:
    FileNotFoundError: if images or weights are absent; says how to fetch them.
  """
  whole = images.load_images(name, data_dir)
  train, choice = _per_class(whole.train, per_class, choice_per_class)
  (test,) = _per_class(whole.test, test_per_class)
  parts = (train, choice, test)
  if name == 'digits':
    made, cost = [_random_features(part) for part in parts], 'free'
    trunks = made
  else:
    trunks, made, cost = _embed(parts, data_dir)
  pair = lambda rows, a, b: Images(rows[a], rows[b])
  return FeatureSet(
    pair(parts, 0, 2),
    pair(parts, 0, 1),
    pair(made, 0, 2),
    pair(made, 0, 1),
    pair(trunks, 0, 2),
    cost,
  )


def _per_class(rows: dict[str, np.ndarray], *counts: int) -> list[dict]:
  """Disjoint sets of so many rows of each class, in a random order."""
  rng = np.random.default_rng(0)
  order = rng.permutation(len(rows['labels']))
  place = np.empty(len(order), int)  # of a row among those of its class
  for label in np.unique(rows['labels']):
    own = order[rows['labels'][order] == label]
    place[own] = np.arange(len(own))
    if len(own) < sum(counts):
      raise ValueError(
        f'feature_sets.load: class {label} has {len(own)} rows; '
        f'{sum(counts)} are asked for.'
      )
  ends = np.cumsum([0, *counts])
  chosen = [
    order[(place[order] >= start) & (place[order] < end)]
    for start, end in itertools.pairwise(ends)
  ]
  return [{k: v[index] for k, v in rows.items()} for index in chosen]


def _random_features(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  inputs = rows['inputs']
  shape = (inputs.shape[1], RANDOM)
  kernel = np.random.default_rng(0).normal(size=shape) / np.sqrt(shape[0])
  features = np.maximum(inputs @ kernel.astype(np.float32), 0)
  return {**rows, 'inputs': features}


def _embed(parts, data_dir) -> tuple[list[dict], list[dict], str]:
  """Trunks and features of all parts, and the time they took."""
  network = backbone.load_backbone(data_dir)
  side = lambda rows: (len(rows['inputs']), 28, 28)
  found = [
    backbone.embed(network, rows['inputs'].reshape(side(rows)), size=SIZE)
    for rows in parts
  ]
  put = lambda field: [
    {**rows, 'inputs': getattr(x, field)}
    for rows, x in zip(parts, found, strict=True)
  ]
  seconds = sum(float(x.cpu_seconds) for x in found)
  count = sum(len(x.features) for x in found)
  cost = f'{seconds:.0f} CPU s once for {count:,} images'
  return put('trunk'), put('features'), cost


def main() -> None:
  """Computes what is not there."""
  parser = argparse.ArgumentParser(
    prog='python -m experiments.papers.feature_sets',
    description='Computes the features that claims take.',
  )
  parser.add_argument('--data_dir', required=True, help='of images and weights')
  data_dir = parser.parse_args().data_dir
  for name in ('mnist', 'fashion_mnist'):
    print(f'{name}: {load(name, data_dir).cost}')


if __name__ == '__main__':
  main()
