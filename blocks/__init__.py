"""An address and a secret that an operator sets, and one way to use it."""
