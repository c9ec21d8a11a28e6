"""What runs: the registry of names, the tiny language models trained here, and what is trained on top of them."""
