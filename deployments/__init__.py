"""Where things run, as data, and what makes a server match it."""
