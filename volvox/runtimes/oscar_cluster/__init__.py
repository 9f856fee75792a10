"""An OSCAR cluster by its REST API: its services, what is called in them, and their jobs."""
