"""What the page explains beside its figures, and its definitions."""

RUNS = (
  'One line is the mean over seeds, its band the 95% interval; of the loss, '
  'which is smoothed over a few steps, both of the logarithm. A branch starts '
  'from the checkpoint at its fork; main goes on as if it had not been. Dots '
  'mark what a branch ends with. The axes fit the lines; a band may leave them.'
)
MATRICES = (
  'Accuracy on each task (columns) after training on each task (rows), mean '
  'over seeds. Bare numbers above the diagonal are tasks not yet met.'
)
GAPS = (
  'Accuracy on each task along the main branch: thin while the task is '
  'trained, full once it is over, the band being the range over seeds. A '
  'triangle marks the lowest point of the mean since then; min-ACC is the mean '
  'of such minima, taken seed by seed.'
)
DEFINITIONS = (
  (
    'before, after',
    'The main branch at the end of the stream; and the decay branches that '
    'fork from it at the ends of tasks, each at its own last step. A branch '
    'trains longer than main at its fork by the length of the decay.',
  ),
  (
    'average accuracy',
    'Mean over all tasks after the last one.',
  ),
  (
    'forgetting',
    'Mean over the earlier tasks of their best accuracy at an earlier task '
    'end, less their final one. Lower is better.',
  ),
  (
    'worst case (WC-ACC)',
    'The newest task weighs 1/T with its final accuracy, the others weigh '
    '1 - 1/T with their lowest accuracy since their own end (min-ACC), over '
    'all evaluations on the way to the model in question.',
  ),
  (
    'gap depth, recovery steps',
    'Per switch, for the mean over the earlier tasks: how far it falls below '
    'the lower one of its levels at the switch and at the next task end, and '
    'the steps until that level (less 0.01) is reached again; averaged over '
    'switches.',
  ),
  (
    'comparisons',
    'Differences are paired over seeds where two rows share them; a sentence '
    'states one only if its 95% Student t interval leaves out zero. Nothing is '
    'corrected for the number of comparisons.',
  ),
  (
    'costs',
    'Of the main branch, without its decay branches.',
  ),
)
