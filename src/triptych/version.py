"""The version of Triptych, for records and for the build."""

__version__ = "0.1.0"
