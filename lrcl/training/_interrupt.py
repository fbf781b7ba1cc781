"""SIGINT and SIGTERM as a flag that the loop reads between two chunks."""

import contextlib
import signal
import threading


class Interrupted(KeyboardInterrupt):
  """The run was asked to stop; it has saved its state where it can."""


@contextlib.contextmanager
def catch_signals():
  """Yields an event that SIGINT or SIGTERM sets.

  A second signal acts as it would have without. Outside the main thread,
  where handlers cannot be set, the event stays unset.
  """
  stop = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield stop
    return
  previous = {}

  def handle(number, frame):
    del frame
    stop.set()
    signal.signal(number, previous[number])

  for number in (signal.SIGINT, signal.SIGTERM):
    previous[number] = signal.signal(number, handle)
  try:
    yield stop
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)
