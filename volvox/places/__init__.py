"""Where files come from and answers go: folders, buckets, WebDAV and Onedata, each addressed by a URL."""

from volvox.places.interface import Found, Place

__all__ = ["Found", "Place"]
