"""Model modules as the platform sees them: found by entry point, known by their code, called in a child process."""
