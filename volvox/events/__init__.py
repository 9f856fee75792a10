"""Events: that a file has come, from whomever tells of it first, told to the inbox."""

from volvox.events import senders
from volvox.events.parsing import Notification, parse
from volvox.events.senders import Sender, SenderFile
from volvox.events.sources import Record, Source

__all__ = ["Notification", "Record", "Sender", "SenderFile", "Source", "parse", "senders"]
