"""One function for each scenario; its body is what the page shows."""

from collections.abc import Callable
from typing import Any

from lrcl import schedules, streams

Make = Callable[[Any, Any], streams.Stream]


def split(train, test):
  """Class-incremental: two classes at a time, none of them again."""
  return streams.split(
    train, num_tasks=5, batch_size=16, steps_per_task=100, test=test
  )


def permuted(train, test):
  """Domain-incremental: all classes, the features in another order."""
  return streams.permuted(
    train, num_tasks=5, batch_size=16, steps_per_task=100, test=test
  )


def rotated(train, test):
  """Domain-incremental: all classes, the images turned further."""
  return streams.rotated(
    train,
    num_tasks=5,
    batch_size=16,
    steps_per_task=100,
    image_shape=(8, 8),
    test=test,
  )


def online(train, test):
  """A single pass in small batches."""
  return streams.split(train, num_tasks=5, batch_size=4, epochs=1, test=test)


def i_blurry(train, test):
  """i-Blurry: half of the classes leak evenly into all tasks."""
  return streams.blurry(
    train,
    num_tasks=5,
    batch_size=4,
    disjoint=0.5,
    blurred=0.3,
    stochastic=False,
    test=test,
  )


def si_blurry(train, test):
  """Si-Blurry: how much leaks, and where to, is drawn at random."""
  return streams.blurry(
    train, num_tasks=5, batch_size=4, blurred=0.3, split_seed=3, test=test
  )


def hide_tasks(train, test):
  """i-Blurry with no sign of where one task ends and the next begins."""
  tasks = streams.blurry(
    train,
    num_tasks=5,
    batch_size=1,
    disjoint=0.5,
    blurred=0.3,
    stochastic=False,
    test=test,
  )
  return streams.hide_tasks(tasks, batch_size=4)


def scole(train, test):
  """SCoLe: two classes at a time, which return without end."""
  return streams.scole(
    train, batch_size=16, steps_per_task=10, num_tasks=60, test=test
  )


def scole_unbalanced(train, test):
  """SCoLe with classes that are rarer than others."""
  return streams.scole(
    train,
    batch_size=16,
    steps_per_task=10,
    num_tasks=60,
    class_weights=streams.unbalanced_weights(10, slope=0.1, exponent=2.0),
    test=test,
  )


def scole_cyclic(train, test):
  """SCoLe in a fixed order that is left now and then."""
  return streams.scole(
    train,
    batch_size=16,
    steps_per_task=10,
    num_tasks=60,
    cycle=range(10),
    randomness=0.2,
    test=test,
  )


def scole_removed(train, test):
  """SCoLe in which half of the classes no longer come from the middle on."""
  return streams.scole(
    train,
    batch_size=16,
    steps_per_task=10,
    num_tasks=60,
    removed=range(5),
    removed_from=30,
    test=test,
  )


def power_law(train, test):
  """Old tasks return by a power law of their age."""
  tasks = streams.split(
    train, num_tasks=5, batch_size=16, steps_per_task=100, test=test
  )
  return streams.reoccurring(tasks, law='power')


def exponential(train, test):
  """Old tasks return for a third of the batch, the less the older."""
  tasks = streams.split(
    train, num_tasks=5, batch_size=16, steps_per_task=100, test=test
  )
  return streams.reoccurring(tasks, law='exponential', share=0.33)


def recency(train, test):
  """Only the task before returns."""
  tasks = streams.split(
    train, num_tasks=5, batch_size=16, steps_per_task=100, test=test
  )
  return streams.reoccurring(tasks, law='recency', share=0.33)


def mixture(train, test):
  """A mixture whose weights are schedules of the step."""
  tasks = streams.split(
    train, num_tasks=2, batch_size=16, steps_per_task=250, test=test
  )
  fading = schedules.wsd_schedule(1.0, 0, 100, 300)
  return streams.mixture(tasks, [fading, 0.5])


def hierarchical(train, test):
  """Coarse labels first, then group after group told apart further."""
  return streams.hierarchical(
    train,
    parents=[0, 0, 0, 0, 1, 1, 1, 2, 2, 2],
    batch_size=16,
    steps_per_task=100,
    test=test,
  )


def hierarchical_dual(train, test):
  """The same, with every row under each of its labels."""
  return streams.hierarchical(
    train,
    parents=[0, 0, 0, 0, 1, 1, 1, 2, 2, 2],
    batch_size=16,
    steps_per_task=100,
    dual=True,
    test=test,
  )


def few_shot(train, test):
  """Continual few-shot learning: a few rows of two new classes at a time."""
  return streams.few_shot(
    train, num_sets=5, ways=2, shots=5, steps_per_set=20, queries=10
  )


def few_shot_samples(train, test):
  """The same classes in every set, with new rows for them."""
  return streams.few_shot(
    train,
    num_sets=5,
    ways=2,
    shots=5,
    steps_per_set=20,
    queries=10,
    change_interval=5,
  )


def instance_test(train, test):
  """The instance test: every row is a class of its own."""
  return streams.instance_test(
    train, num_sets=4, ways=5, steps_per_set=20, corrupt=streams.occlude
  )


def repeat_views(train, test):
  """Views of a row side by side, and then a long time not."""
  tasks = streams.split(train, num_tasks=1, batch_size=16, epochs=4)
  return streams.repeat_views(tasks, 4)


def one_pass(train, test):
  """The same rows without repeated views, for comparison."""
  return streams.split(train, num_tasks=1, batch_size=16, epochs=4)


def cyclical_curriculum(train, test):
  """Epochs of a size that goes up and down; easy rows come more often."""
  whole = streams.joint(
    streams.split(train, num_tasks=5, batch_size=16, steps_per_task=100)
  )
  rows = whole.task_batches(0, 1)[0].ravel()
  ease = 10.0 - train['labels'][rows]
  return streams.cyclical_curriculum(whole, ease)


def designed_order(train, test):
  """One class at a time, in the order of the Curriculum Designer."""
  distances = streams.class_distances(train['inputs'], train['labels'])
  return streams.split(
    train,
    num_tasks=10,
    batch_size=16,
    steps_per_task=50,
    class_order=streams.design_class_order(distances),
    test=test,
  )


def dated_text(train, test):
  """Documents with dates, one period after another; tasks are periods."""
  years = range(1800, 2000, 2)
  texts = [f'It was the year {y}. ' * (y - 1790) for y in years]
  return streams.dated_text(
    texts, years, period=25, length=64, batch_size=16, steps_per_task=20
  )


def shuffled_labels(train, test):
  """Random labels that are drawn anew for every task."""
  first = {name: column[:8] for name, column in train.items()}
  return streams.shuffled_labels(
    first, batch_size=8, steps_per_task=20, num_tasks=8, num_classes=10
  )


def joint(train, test):
  """All tasks mixed into one: the upper reference."""
  tasks = streams.split(
    train, num_tasks=5, batch_size=16, steps_per_task=100, test=test
  )
  return streams.joint(tasks)


CLASS, TASK, LABEL, ROW = 'class', 'task', 'label', 'row'

ROWS: dict[Make, str] = {
  split: CLASS,
  permuted: TASK,
  rotated: TASK,
  online: CLASS,
  i_blurry: CLASS,
  si_blurry: CLASS,
  hide_tasks: CLASS,
  scole: CLASS,
  scole_unbalanced: CLASS,
  scole_cyclic: CLASS,
  scole_removed: CLASS,
  power_law: CLASS,
  exponential: CLASS,
  recency: CLASS,
  mixture: CLASS,
  hierarchical: LABEL,
  hierarchical_dual: LABEL,
  few_shot: LABEL,
  few_shot_samples: ROW,
  instance_test: LABEL,
  one_pass: ROW,
  repeat_views: ROW,
  cyclical_curriculum: CLASS,
  designed_order: CLASS,
  dated_text: TASK,
  shuffled_labels: LABEL,
  joint: CLASS,
}
"""For each scenario what its picture has on the vertical axis: the class of
the data, the task of the row, the label in the batch, or the row itself."""
