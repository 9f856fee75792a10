"""Functions on Amazon's services: Lambda, Batch, ECS.

Everything that is made there has a name that is derived from the function's and a tag that says whose it is, so that it
is found again; what is there already is compared and only what differs is written.
"""
