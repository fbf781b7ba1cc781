import pathlib
import subprocess
import sys


def test_a_killed_run_ends_as_if_it_had_not_been():
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.kill_resume', '--kills=3', '--seed=1'],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.stdout.splitlines()[-1:] == ['3 of 3 identical'], (
    done.stdout + done.stderr
  )
