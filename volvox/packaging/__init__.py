"""Serving images: build context, engine, bill of materials."""
