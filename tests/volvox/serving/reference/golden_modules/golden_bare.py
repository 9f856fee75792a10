"""A module without any function: everything that is not there has its answer."""
