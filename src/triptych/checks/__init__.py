"""What is checked before a run, and the preview."""
