"""What a model writes: continuing prompts, files of predictions, their check, how near they come to references."""
