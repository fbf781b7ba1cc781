"""Data sets that come with a package and need no set-up."""

import numpy as np

Arrays = dict[str, np.ndarray]


def digits(seed: int = 0, test_fraction: float = 0.22) -> tuple[Arrays, Arrays]:
  """The 1,797 handwritten 8 x 8 digits that scikit-learn carries.

  Args:
    seed: decides which rows are test rows.
    test_fraction: share of test rows, rounded to whole rows.

  Returns:
    `(train, test)`, each `inputs` `[n, 64]` float32 in `[0, 1]` and `labels`
    `[n]` int32.

  Raises:
    ImportError: if scikit-learn is missing.
    ValueError: if `test_fraction` leaves nothing to train or to test.

  Example:
    >>> train, test = digits()
    >>> train['inputs'].shape, test['labels'].shape
    ((1402, 64), (395,))

  References:
    `Optical Recognition of Handwritten Digits
    <https://archive.ics.uci.edu/dataset/80>`_, UCI.
  """
  try:
    from sklearn import datasets
  except ImportError as error:
    raise ImportError(
      'digits: scikit-learn is not installed; run: pip install scikit-learn'
    ) from error
  inputs, labels = datasets.load_digits(return_X_y=True)
  num_test = round(len(labels) * test_fraction)
  if not 0 < num_test < len(labels):
    raise ValueError(
      f'digits: test_fraction is {test_fraction}; it must lie between 0 and 1.'
    )
  arrays = {
    'inputs': (inputs / 16).astype(np.float32),
    'labels': labels.astype(np.int32),
  }
  order = np.random.default_rng(seed).permutation(len(labels))
  pick = lambda rows: {name: array[rows] for name, array in arrays.items()}
  return pick(order[num_test:]), pick(order[:num_test])
