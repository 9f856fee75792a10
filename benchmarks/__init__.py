"""Measurements: every number in the README and in docs/ comes from a script here."""
