"""Where files come from and answers go: folders, buckets, WebDAV and Onedata, each addressed by a URL."""

from volvox.places.addresses import joined, relative, split
from volvox.places.interface import Found, Place
from volvox.places.opening import open_place

__all__ = ["Found", "Place", "joined", "open_place", "relative", "split"]
