"""Runtimes: where functions run, behind one protocol."""

from volvox.runtimes.interface import Call, Instance, Outcome, Runtime, Status

__all__ = ["Call", "Instance", "Outcome", "Runtime", "Status"]
