"""Volvox: from labelled data to a trained, evaluated, registered, packaged, catalogued, served model."""

__version__ = "0.1.0"
