"""What a run that answers many files returns."""

from __future__ import annotations

from typing import Any

from volvox.records import Record


class BatchAnswers(Record):
    """Many files in, an answer for each beside them in the function's output places.

    Attributes:
        function: Name of the function.
        model: Name of the model that answered.
        version: Its version number.
        jobs_object: The list of the files, see `volvox.bulk.listing`.
        outcomes_object: What became of each, see `volvox.bulk.outcomes`.
        files: How many there were.
        answered: How many of them were answered.
        failed: How many were not, each with its reason among the outcomes.
        seconds: How long this run was at it.
    """

    function: str
    model: str
    version: str
    jobs_object: str
    outcomes_object: str
    files: int
    answered: int
    failed: int
    seconds: float = 0.0

    def identity(self) -> Any:
        return ["answers", self.jobs_object]
