"""Computes an experiment: prepare, the model session, the run that resumes, search; one-cell scoring and predicting."""
