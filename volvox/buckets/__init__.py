"""Buckets that speak S3: how one is reached, how it is asked, and what its errors mean."""

from volvox.buckets.access import BODIES, ONCE, QUICK, Access, Patience, connect
from volvox.buckets.bucket import Bucket
from volvox.buckets.failures import NoBucket, Unsupported, reason

__all__ = ["BODIES", "ONCE", "QUICK", "Access", "Bucket", "NoBucket", "Patience", "Unsupported", "connect", "reason"]
