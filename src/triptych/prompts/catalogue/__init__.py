"""The prompts that ship, one YAML file each."""
