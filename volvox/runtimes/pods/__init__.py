"""What the runtime `kubernetes` makes in a cluster: Deployments and Services of models, Jobs of scripts."""
