"""A job for people and programs: the same words in the command line, the API and pages."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from volvox.inbox import ENDED, Inbox, Job


def as_json(job: Job) -> dict[str, Any]:
    """The job as the API tells it; times are ISO 8601 with a zone, seconds are numbers."""
    begun = next((step.time for step in reversed(job.steps) if step.state == "STARTING"), 0.0)
    running = next((step.time for step in reversed(job.steps) if step.state == "RUNNING"), 0.0)
    now = time.time()
    return {
        "id": job.id,
        "function": job.function,
        "function_version": job.function_version,
        "state": job.state,
        "reason": job.reason,
        "place": job.place,
        "key": job.key,
        "version": job.version,
        "size": job.size,
        "user": job.user,
        "priority": job.priority,
        "source": job.source,
        "attempts": job.attempts,
        "created": moment(job.created),
        "ended": moment(job.ended) if job.ended else None,
        "waited_seconds": round((begun or job.ended or now) - job.created, 3),
        "ran_seconds": round((job.ended or now) - running, 3) if running else None,
        "foreseen": job.foreseen or None,
        "cost": job.bill.get("cost"),
        "currency": job.bill.get("currency", ""),
        "again_at": moment(job.not_before) if job.state == "PENDING" and job.not_before else None,
        "deadline": moment(job.deadline) if job.deadline else None,
        "cancel": job.cancel,
        "outputs": [*job.outputs],
        "error": job.error or None,
        "steps": [{"time": moment(step.time), "state": step.state, "reason": step.reason} for step in job.steps],
        "change": job.change,
    }


def why_it_waits(inbox: Inbox, job: Job, trouble: str = "") -> str:
    """One sentence: why a job that has not ended is not further; its own reason where it has one.

    Args:
        inbox: Where it is.
        job: The job.
        trouble: Why its function cannot be deployed (`volvox.dispatch.following.trouble`), or empty.
    """
    if job.state in ENDED:
        return job.reason
    if trouble and job.state in ("PENDING", "RUNNABLE"):
        return f"its function cannot be deployed: {trouble}"
    if job.reason:
        return job.reason
    if job.state == "RUNNABLE":
        before = inbox.before(job)
        if not before:
            return "it is the next one; an instance has to become free"
        return f"{before} {'job is' if before == 1 else 'jobs are'} before it"
    if job.state == "STARTING":
        return "an instance is made ready for it, and its file is fetched"
    return ""


def moment(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
