"""The score: which tokens count, their NLL, and the averages. `aggregate` needs no torch; the rest does."""
