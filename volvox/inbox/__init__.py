"""The durable inbox: what was told of every file, and what became of it."""

from volvox.inbox.job import ENDED, Arrival, Job, NewJob, State, Step

__all__ = ["ENDED", "Arrival", "Job", "NewJob", "State", "Step"]
