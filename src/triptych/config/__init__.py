"""Every setting of an experiment and its allowed values; reading them from YAML; the schema and the starter file."""
