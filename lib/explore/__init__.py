"""Any column of an experiment's measurements against any other: what `notebooks/explore.ipynb` shows.

`table` reads and summarises, `picture` draws, `panel` puts dropdowns in front of both. No model is loaded.
"""
