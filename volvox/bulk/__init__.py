"""A large drop: many files that one run of the flow `batch-inference` answers.

`listing` is what the run is told, `outcomes` what it tells while it goes on; `steps` is how an object is answered, here
and in the `inference` stage, and `answering` does it with many.
"""
