"""What really runs on an engine, as the engine itself tells it: containers, Kubernetes Jobs, ECS tasks."""
