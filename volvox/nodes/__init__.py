"""Node groups: the machines that functions run on, started and stopped as the one policy says."""
