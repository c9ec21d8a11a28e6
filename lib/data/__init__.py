"""What the models read: generated corpora of known entropy, and the prompts and questions of each experiment."""
