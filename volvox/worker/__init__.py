"""The side that holds a model module: the standard library and what the module itself brings, no more.

It runs as a process of its own, so that a module may crash, hang, be killed or need an interpreter with other pins
without touching the process that asked. `bootstrap.py` starts it, in this interpreter or another one.
"""
