"""The job runner: gives a script its file and its event, watches it, and looks at what it wrote.

The standard library only, from Python 3.8 on: it also runs inside of images. What SCAR and OSCAR gave their scripts is
the same here; what their runner did not do (the interpreter line, the exit code, a log while it runs, time that ends)
is done. `python volvox/runner/__main__.py REQUEST` runs one; `volvox.runtimes.docker` uses the parts from outside.
"""
