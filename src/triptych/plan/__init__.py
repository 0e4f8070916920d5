"""Tokens, memory, time and disk of an experiment, before it runs."""
