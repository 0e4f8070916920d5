"""The cells and trainings of an experiment, and the token ids of each."""
