"""Configs: one experiment each."""
