"""Image classifier: DEEPaaS V2 functions in `api`; nothing heavy is imported before it is needed."""
