"""Curves: what they hold, and what they refuse, from memory and from files."""

import numpy as np
import pytest

from lrcl import forecasting


def test_a_curve_keeps_what_it_was_given():
  curve = forecasting.Curve([1, 2, 3], [4, 5], steps=[0, 2])
  assert curve.lrs.dtype == curve.losses.dtype == np.float64
  assert curve.steps.tolist() == [0, 2]
  assert forecasting.Curve([1, 2], [4, 5]).steps.tolist() == [0, 1]
  with pytest.raises(ValueError, match='read-only'):
    curve.losses[0] = 1


@pytest.mark.parametrize(
  'lrs,losses,steps,told',
  [
    ([1, -1], [1, 1], None, r'lrs\[1\] of x is -1; .* >= 0'),
    ([1, np.inf], [1, 1], None, r'lrs\[1\] of x is inf'),
    ([1, 1], [1, 0], None, r'losses\[1\] of x is 0; .* > 0'),
    ([1, 1], [np.nan, 1], None, r'losses\[0\] of x is nan'),
    ([1, 1], [1], None, '1 losses and 2 steps'),
    ([1, 1], [1, 1], [0, 2], r'steps\[1\] of x is 2; .* from 0 to 1'),
    ([1, 1], [1, 1], [1, 1], r'steps\[1\] of x is 1; .* above'),
    ([1, 1], [1, 1], [0, 0.5], r'steps\[1\] of x is 0.5; .* whole'),
    ([], [], None, 'lrs of x must be a row'),
    ('ab', [1, 1], None, 'lrs of x must be a row'),
  ],
)
def test_a_curve_that_cannot_be_is_refused(lrs, losses, steps, told):
  with pytest.raises(ValueError, match=f'Curve: .*{told}'):
    forecasting.Curve(lrs, losses, steps, 'x')


def write(tmp_path, text):
  path = tmp_path / 'name.csv'
  path.write_text(text)
  return path


def test_a_file_with_every_step_is_taken_as_it_is(tmp_path):
  path = write(tmp_path, 'loss,extra,LR,step\n3,x,.1,0\n2,y,.2,1\n\n1,z,.3,2\n')
  curve = forecasting.read_curve(path)
  assert curve.lrs.tolist() == [0.1, 0.2, 0.3]
  assert curve.losses.tolist() == [3, 2, 1] and curve.name == 'name'


def test_rates_between_the_lines(tmp_path):
  path = write(tmp_path, 'step,lr,loss\n4,.4,3\n8,.2,2\n')
  curve = forecasting.read_curve(path, warmup_steps=3)
  want = [0, 0.2, 0.4, 0.4, 0.4, 0.35, 0.3, 0.25, 0.2]
  np.testing.assert_allclose(curve.lrs, want)
  assert curve.steps.tolist() == [4, 8]


def test_rates_of_a_schedule(tmp_path):
  path = write(tmp_path, 'step,lr,loss\n4,.4,3\n8,.2,2\n')
  schedule = lambda step: np.where(step < 6, 0.4, 0.2)
  curve = forecasting.read_curve(path, schedule=schedule)
  assert curve.lrs.tolist() == [0.4] * 6 + [0.2] * 3
  with pytest.raises(ValueError, match=r'name.csv: lr is 0.2 at step 8'):
    forecasting.read_curve(path, schedule=lambda step: 0 * step + 0.4)


@pytest.mark.parametrize(
  'text,told',
  [
    ('', 'names no column step, lr, loss'),
    ('step,loss\n1,2\n', 'names no column lr'),
    ('step,lr,loss\n1,2,3\n', 'has 1 losses'),
    ('step,lr,loss\n1,.1,3\n2,x,3\n', 'line 3'),
    ('step,lr,loss\n1,.1,3\n2,.1\n', 'line 3'),
    ('step,lr,loss\n1,.1,3\n1,.1,3\n', 'loss 2: step is 1'),
    ('step,lr,loss\n1,.1,3\n1.5,.1,3\n', 'loss 2: step is 1.5'),
    ('step,lr,loss\n1,.1,3\n2,-1,3\n', 'loss 2: lr is -1'),
    ('step,lr,loss\n1,.1,3\n2,.1,nan\n', 'loss 2: loss is nan'),
    ('step,lr,loss\n1,.1,-3\n2,.1,3\n', 'loss 1: loss is -3'),
  ],
)
def test_a_malformed_file_is_refused(tmp_path, text, told):
  with pytest.raises(ValueError, match=rf'name\.csv.*{told}'):
    forecasting.read_curve(write(tmp_path, text))


def test_a_file_that_begins_late_leaves_its_warmup_out(tmp_path):
  path = tmp_path / 'late.csv'
  path.write_text('step,lr,loss\n6,0.5,3.5\n8,0.5,3.0\n')
  rise = np.linspace(0, 0.5, 6)
  found = forecasting.read_curve(path).lrs
  np.testing.assert_allclose(found, [*rise, 0.5, 0.5, 0.5])
  level = forecasting.read_curve(path, warmup_steps=0).lrs
  np.testing.assert_array_equal(level, np.full(9, 0.5))
  path.write_text('step,lr,loss\n2,0.5,3.5\n4,0.5,3.0\n')
  level = forecasting.read_curve(path).lrs  # a line for every second step
  np.testing.assert_array_equal(level, np.full(5, 0.5))


def test_a_warmup_beyond_the_first_loss_is_refused(tmp_path):
  path = write(tmp_path, 'step,lr,loss\n4,.4,3\n8,.2,2\n')
  with pytest.raises(ValueError, match='warmup_steps is 5'):
    forecasting.read_curve(path, warmup_steps=5)


@pytest.mark.parametrize(
  'predicted,measured,told',
  [
    ([1.0], [1.0, 2.0], 'shape'),
    ([1.0, 1.0], [1.0, 1.0], 'not all alike'),
    ([1.0, 1.0], [0.0, 1.0], '> 0'),
  ],
)
def test_scores_of_nothing_are_refused(predicted, measured, told):
  with pytest.raises(ValueError, match=told):
    forecasting.score(predicted, measured)


def test_scores_by_hand():
  scores = forecasting.score([1.0, 2.0, 4.5], [1.0, 2.0, 3.0])
  want = (1 - 2.25 / 2, 0.5, np.sqrt(0.75), 1.5 / 9, 0.5)
  np.testing.assert_allclose(scores, want)
