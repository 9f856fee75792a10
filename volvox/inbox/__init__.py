"""The durable inbox: what was told of every file, and what became of it."""

from volvox.inbox.inbox import Inbox
from volvox.inbox.job import ENDED, Arrival, Ending, Job, NewJob, State, Step, Waiting
from volvox.inbox.opening import open_inbox

__all__ = ["ENDED", "Arrival", "Ending", "Inbox", "Job", "NewJob", "State", "Step", "Waiting", "open_inbox"]
