"""Speed comparisons, one module per experiment: arms interleaved in one process on one thread, medians, ratios.

A module of this package with a `command` function is a benchmark: `python -m lib.bench NAME`. Ratios within one run are
what transfers between machines; seconds are stored with the machine's name beside them in runs/bench/NAME/.
"""
