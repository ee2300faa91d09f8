"""The compiled modules, the only ones that know csrc.

Each .pyx checks its arguments, drops the GIL, makes one call into the core and wraps the result. The core's
one error type becomes the exceptions of `fastfeed.errors` in one place: `raise_native_error` (errors.pxd).
"""
