"""Functions: a published model, or an image and a script, that answers the files that land in a place."""

from volvox.functions.definition import Function, Input, Output, Resources, Retries, Scaling

__all__ = ["Function", "Input", "Output", "Resources", "Retries", "Scaling"]
