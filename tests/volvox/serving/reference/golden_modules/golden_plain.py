"""A module of one function, without arguments."""


def predict(**arguments):
    return sorted(arguments)
