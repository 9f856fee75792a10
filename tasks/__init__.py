"""One step that can fail, be retried or be reused: one file a stage."""
