"""Learning-rate schedules for training that does not end, in JAX."""

__version__ = '0.1.0.dev0'
