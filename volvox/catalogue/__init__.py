"""Metadata of models and the static catalogue made from it."""
