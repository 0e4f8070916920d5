"""Triptych: is a better prompt enough, do in-context examples do it, or should I fine-tune?

Importing this package loads nothing heavy: torch is imported by the modules that compute.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
