# ruff: noqa: F401  what is imported here is the module's interface
"""The hot loops, in viper where MicroPython compiles it and in plain Python where not."""

try:
    from .kernels_viper import copy_ring, draw, merge, pack, store, stuff, take_clicks, to_slots, translate

    IMPLEMENTATION = "viper"
except (ImportError, SyntaxError):  # CPython; a port without the native emitter
    from .kernels_bytecode import copy_ring, draw, merge, pack, store, stuff, take_clicks, to_slots, translate

    IMPLEMENTATION = "bytecode"
