import io
import sys

import pytest

from lrcl.training import _progress


def test_nothing_is_shown_where_there_is_no_terminal(capfd):
  with _progress.Progress(100, 0, 'replay/main') as bar:
    bar.update(50, 1, 0.05, 0.7)
  assert capfd.readouterr() == ('', '')


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.mark.parametrize(
  'words', ['replay/main', '50/100', 'task 1', 'rate 0.05', 'loss 0.7']
)
def test_a_terminal_shows_the_state_of_the_run(monkeypatch, words):
  screen = Terminal()
  monkeypatch.setattr(sys, 'stderr', screen)
  monkeypatch.setenv('COLUMNS', '160')
  monkeypatch.setenv('TERM', 'xterm')
  with _progress.Progress(100, 0, 'replay/main') as bar:
    bar.update(50, 1, 0.05, 0.7)
    bar._bar[0].refresh()
  assert words in screen.getvalue() and 'steps/s' in screen.getvalue()
