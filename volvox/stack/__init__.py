"""What one machine needs running: start it, find it, end it."""
