"""Labelled images: fetch, check, split, keep."""
