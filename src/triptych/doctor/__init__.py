"""Whether this machine can do what Triptych needs."""
