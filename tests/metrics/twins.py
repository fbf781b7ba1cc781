"""The definitions once more, by slow loops: a twin for every public metric.

A twin has the name and the arguments of its metric and takes one run, without
leading axes. It returns a number, an array, or a dict of them by the names of
leaves (`a/kernel`).
"""

import math

import numpy as np

# Of the accuracy matrix; the formulas of the papers count from 1.


def _at(matrix):
  return lambda i, j: float(matrix[i - 1][j - 1])


def average_accuracy(matrix):
  size, at = len(matrix), _at(matrix)
  return sum(at(size, j) for j in range(1, size + 1)) / size


def average_incremental_accuracy(matrix):
  size, at = len(matrix), _at(matrix)
  means = [
    sum(at(k, j) for j in range(1, k + 1)) / k for k in range(1, size + 1)
  ]
  return sum(means) / size


def learning_accuracy(matrix):
  size, at = len(matrix), _at(matrix)
  return sum(at(j, j) for j in range(1, size + 1)) / size


def forgetting(matrix):
  size, at = len(matrix), _at(matrix)
  if size == 1:
    return math.nan
  drops = [
    max(at(i, j) for i in range(j, size)) - at(size, j) for j in range(1, size)
  ]
  return sum(drops) / (size - 1)


def backward_transfer(matrix):
  size, at = len(matrix), _at(matrix)
  if size == 1:
    return math.nan
  return sum(at(size, j) - at(j, j) for j in range(1, size)) / (size - 1)


def forward_transfer(matrix, baseline):
  size, at = len(matrix), _at(matrix)
  if size == 1:
    return math.nan
  ahead = [at(j - 1, j) - float(baseline[j - 1]) for j in range(2, size + 1)]
  return sum(ahead) / (size - 1)


def intransigence(matrix, joint):
  size, at = len(matrix), _at(matrix)
  return sum(joint[k - 1] - at(k, k) for k in range(1, size + 1)) / size


# Of series and curves.


def learning_curve_area(curves):
  tasks, batches = len(curves), len(curves[0])
  z = [sum(curves[k][b] for k in range(tasks)) / tasks for b in range(batches)]
  return sum(z) / batches


def area_under_accuracy(accuracy, samples=None):
  if samples is None:
    samples = range(1, len(accuracy) + 1)
  each, seen = [], 0
  for value, until in zip(accuracy, samples, strict=True):
    for _ in range(seen, until):
      each.append(float(value))
    seen = until
  return sum(each) / len(each)


def class_forgetting(accuracy):
  drops = []
  for column in np.asarray(accuracy).T:
    past = column[:-1]
    if len(past) and max(past) > 0:
      drops.append(max(past) - column[-1])
  return sum(drops) / len(drops) if drops else math.nan


def min_accuracy(accuracy, task_ends):
  if len(task_ends) == 1:
    return math.nan
  lows, last = [], task_ends[-1]
  for task, end in enumerate(task_ends[:-1]):
    lows.append(min(accuracy[n][task] for n in range(end + 1, last + 1)))
  return sum(lows) / len(lows)


def worst_case_accuracy(accuracy, task_ends):
  k = len(task_ends)
  newest = accuracy[task_ends[-1]][k - 1]
  if k == 1:
    return newest
  return newest / k + (1 - 1 / k) * min_accuracy(accuracy, task_ends)


def stability_gap(accuracy, task_ends, steps=None, tolerance=0.01):
  steps = range(len(accuracy)) if steps is None else steps
  rows = []
  for k in range(len(task_ends) - 1):
    mean = lambda n, k=k: sum(accuracy[n][: k + 1]) / (k + 1)
    start, end = task_ends[k], task_ends[k + 1]
    window = range(start + 1, end + 1)
    low = min(window, key=mean)
    level = min(mean(start), mean(end))
    depth = max(level - mean(low), 0.0)
    back = [n for n in window if n >= low and mean(n) >= level - tolerance]
    wait = steps[back[0]] - steps[start] if depth > tolerance else 0
    rows.append((max(mean(start) - mean(low), 0.0), depth, float(wait)))
  drop, depth, recovery = np.array(rows).reshape(-1, 3).T
  return {'drop': drop, 'depth': depth, 'recovery_steps': recovery}


def windowed_forgetting(accuracy, window):
  falls = []
  for column in np.asarray(accuracy).T:
    best = 0.0
    for n in range(len(column)):
      for m in range(max(0, n - window + 1), n):
        best = max(best, column[m] - column[n])
    falls.append(best)
  return np.array(falls)


def windowed_plasticity(accuracy, window, as_code=False):
  if not as_code:
    return windowed_forgetting(-np.asarray(accuracy), window)
  rises = []
  for column in np.asarray(accuracy).T:
    best = -math.inf
    for end in range(len(column)):
      part = column[max(0, end - window + 1) : end + 1]
      for start, value in enumerate(part):
        if value < max(part[: start + 1]):
          continue  # starts below the running maximum are skipped
        best = max([best] + [later - value for later in part[start + 1 :]])
    rises.append(best)
  return np.array(rises)


# Of networks.


def _units(layer, weight, of):
  """Means of `of` over rows and positions, unit by unit."""
  weight = [1.0] * len(layer) if weight is None else weight
  means = []
  for unit in range(layer.shape[-1]):
    total = 0.0
    for row, w in zip(layer, weight, strict=True):
      values = [of(float(x)) for x in row[..., unit].ravel()]
      total += float(w) * sum(values) / len(values)
    means.append(total / float(sum(weight)))
  return means


def dormant_fraction(activations, threshold=0.1, weight=None):
  dormant = []
  for layer in activations.values():
    sizes = _units(layer, weight, abs)
    mean = sum(sizes) / len(sizes)
    dormant += [size / (mean + 1e-9) <= threshold for size in sizes]
  return sum(dormant) / len(dormant)


def active_fraction(activations, weight=None):
  shares = []
  for layer in activations.values():
    shares += _units(layer, weight, lambda x: float(x > 0))
  return sum(shares) / len(shares)


def _singular(features):
  """Roots of the eigenvalues of the Gram matrix, the largest first."""
  wide = np.asarray(features, np.float64)
  gram = wide.T @ wide
  return sorted([max(v, 0.0) ** 0.5 for v in np.linalg.eigvalsh(gram)])[::-1]


def effective_rank(features):
  sizes = _singular(features)
  total = sum(sizes)
  if total == 0:
    return 0.0
  shares = [s / total for s in sizes]
  return math.exp(-sum(p * math.log(p) for p in shares if p > 1e-12))


def stable_rank(features):
  sizes = _singular(features)
  return sum(s * s for s in sizes) / sizes[0] ** 2 if sizes[0] else 0.0


def feature_rank(features, delta=0.01):
  sizes = _singular(features)
  if sizes[0] == 0:
    return 0
  count = 1
  while sum(sizes[:count]) < (1 - delta) * sum(sizes):
    count += 1
  return count


def _leaves(tree, mask=None, prefix=''):
  """Arrays by name; those alone whose name contains `mask`."""
  if not isinstance(tree, dict):
    return {prefix: np.float64(tree)}
  found = {}
  for name, part in tree.items():
    found |= _leaves(part, None, f'{prefix}/{name}'.strip('/'))
  return {n: x for n, x in found.items() if mask is None or mask in n}


def _norm(array):
  return math.sqrt(sum(float(x) ** 2 for x in np.ravel(array)))


def weight_norm(params, mask=None):
  every = [np.ravel(x) for x in _leaves(params, mask).values()]
  return _norm(np.concatenate(every))


def update_to_weight_ratio(updates, params, mask=None):
  steps = _leaves(updates, mask)
  over = lambda a, b: a / b if b else math.nan
  return {
    name: over(_norm(steps[name]), _norm(x))
    for name, x in _leaves(params, mask).items()
  }


def effective_learning_rate(params, learning_rate, kind='sgd', mask=None):
  rates = {}
  for name, x in _leaves(params, mask).items():
    size = _norm(x) ** 2 if kind == 'sgd' else _norm(x)
    rates[name] = learning_rate / size if size else math.nan
  return rates


def _modules(params):
  """The arrays of each module, by its name."""
  found = {}
  for name, x in _leaves(params).items():
    found.setdefault(name.rpartition('/')[0] or name, {})[name] = x
  return found


def parameter_sensitivity(previous, params):
  before, moved = _leaves(previous), {}
  for module, arrays in _modules(params).items():
    changes = [
      abs(float(a) - float(b))
      for name, x in arrays.items()
      for a, b in zip(np.ravel(x), np.ravel(before[name]), strict=True)
    ]
    moved[module] = sum(changes) / len(changes)
  return moved


def sensitivity_jumps(trace, switches):
  jumps = {}
  for name, values in trace.items():
    jump = [float(values[n]) for n in switches]
    rest = range(min(switches), len(values))
    calm = [float(values[n]) for n in rest if n not in list(switches)]
    mean = sum(calm) / len(calm)
    jumps[name] = sum(jump) / len(jump) / mean if mean else math.nan
  return jumps


def sensitive_mask(params, jumps, fraction):
  modules = _modules(params)
  sizes = {m: sum(x.size for x in a.values()) for m, a in modules.items()}
  room, marked = fraction * sum(sizes.values()), {}
  left = dict(jumps)
  while left:
    module = max(left, key=lambda m: left[m])
    del left[module]
    takes = not any(marked.values()) or sizes[module] <= room
    room -= sizes[module] if takes else 0
    marked |= dict.fromkeys(modules[module], takes)
  return marked


# Of seeds.


def _student_quantile(probability, freedom):
  """By halving, of the integral of the density (Simpson's rule)."""
  scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
  scale /= math.sqrt(freedom * math.pi)

  def below(q, parts=4000):
    x = np.linspace(0.0, q, parts + 1)
    y = scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    inner = 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()
    return 0.5 + (y[0] + inner + y[-1]) * q / parts / 3

  low, high = 0.0, 200.0
  for _ in range(60):
    middle = (low + high) / 2
    low, high = (middle, high) if below(middle) < probability else (low, middle)
  return low


def mean_interval(values, axis=0, confidence=0.95):
  rows = np.moveaxis(np.asarray(values, np.float64), axis, 0)
  seeds = len(rows)
  mean = sum(rows) / seeds
  if seeds == 1:
    return {'0': mean, '1': np.full_like(mean, math.nan)}
  spread = np.sqrt(sum((row - mean) ** 2 for row in rows) / (seeds - 1))
  quantile = _student_quantile((1 + confidence) / 2, seeds - 1)
  return {'0': mean, '1': quantile * spread / math.sqrt(seeds)}
