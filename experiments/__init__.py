"""Experiments: configs, the app that launches them, and what feeds it."""
