"""Benchmarks: scripts that print ratios."""
