"""Pins this process to one core and XLA to one thread.

Import it before jax: the size of the pools is read when they are made.
"""

import os

if hasattr(os, 'sched_setaffinity'):
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_cpu_multi_thread_eigen=false'
os.environ['NPROC'] = '1'
