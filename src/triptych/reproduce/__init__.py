"""The same run again, and which of its numbers agree."""
