"""What the models read: generated corpora whose entropy is known exactly, and the prompts and questions of each experiment."""
