"""What is measured: cost, statistics. Knows nothing of run folders, figures or papermill."""
