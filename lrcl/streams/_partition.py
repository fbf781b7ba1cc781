"""How rows are dealt out to clients that do not see the same classes."""

import numpy as np
import numpy.typing as npt

from lrcl import base


def dirichlet_partition(
  labels: npt.ArrayLike,
  num_clients: int,
  concentration: float,
  seed: int = 0,
  *,
  min_rows: int = 1,
) -> tuple[np.ndarray, ...]:
  """Deals the rows out so that clients differ in their classes.

  The rows of every class are shuffled and cut at shares that are drawn from a
  symmetric Dirichlet distribution over the clients: the smaller the
  concentration, the fewer clients have most of a class. Clients differ in their
  number of rows, too. Whoever ends up with less than `min_rows` is given rows
  of those who have most, one by one, so that the smallest concentration leaves
  no client empty.

  The result is a pure function of the arguments, computed on the host: pools of
  rows, as `make_plan` and `lrcl.training.federated_data` take them.

  Args:
    labels: `[rows]`, whole numbers.
    num_clients: how many clients there are.
    concentration: above 0; 0.1 is far from even, 100 nearly even.
    seed: decides the shares and the shuffling.
    min_rows: the fewest rows of a client.

  Returns:
    For each client its rows, int32 and ascending. Every row has one client.

  Raises:
    ValueError: if a number is out of range, the labels are not one axis, or
      there are too few rows.

  Example:
    >>> pools = dirichlet_partition([0, 0, 0, 1, 1, 1], 2, 0.5)
    >>> np.concatenate(pools).tolist().sort(), len(pools)
    (None, 2)

  References:
    Yurochkin et al., `Bayesian nonparametric federated learning of neural
    networks <https://arxiv.org/abs/1905.12022>`_, 2019 (shares over clients,
    class by class)
  """
  where = 'dirichlet_partition'
  num_clients = base.check_steps(where, 'num_clients', num_clients, 1)
  min_rows = base.check_steps(where, 'min_rows', min_rows, 1)
  base.check_value(where, 'concentration', concentration, above=0)
  labels = np.asarray(labels)
  if labels.ndim != 1:
    raise ValueError(
      f'{where}: labels have shape {labels.shape}; they must be [rows].'
    )
  if len(labels) < num_clients * min_rows:
    raise ValueError(
      f'{where}: there are {len(labels)} rows; {num_clients} clients with '
      f'{min_rows} each need {num_clients * min_rows}.'
    )
  rng = np.random.default_rng(seed)
  owners = _draw_owners(rng, labels, num_clients, concentration)
  _fill_up(owners, num_clients, min_rows)
  pools = (np.flatnonzero(owners == client) for client in range(num_clients))
  return tuple(pool.astype(np.int32) for pool in pools)


def _draw_owners(
  rng: np.random.Generator,
  labels: np.ndarray,
  num_clients: int,
  concentration: float,
) -> np.ndarray:
  """For each row its client."""
  owners = np.empty(len(labels), np.int64)
  for label in np.unique(labels):
    rows = rng.permutation(np.flatnonzero(labels == label))
    shares = rng.dirichlet(np.full(num_clients, concentration))
    cuts = np.round(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
    for client, part in enumerate(np.split(rows, cuts)):
      owners[part] = client
  return owners


def _fill_up(owners: np.ndarray, num_clients: int, min_rows: int) -> None:
  """Moves rows from the largest clients to those with too few, in place."""
  sizes = np.bincount(owners, minlength=num_clients)
  while sizes.min() < min_rows:
    giver, taker = int(sizes.argmax()), int(sizes.argmin())
    owners[np.flatnonzero(owners == giver)[-1]] = taker
    sizes[giver] -= 1
    sizes[taker] += 1
