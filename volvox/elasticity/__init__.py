"""When instances and nodes start and stop: one policy, for real and in a simulation, and what that costs."""
