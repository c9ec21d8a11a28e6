"""Experiment 2a: what drafting buys one model on one engine, and whether the output is still the target's.

`target` says what is to be drafted for, `arms` makes the baseline and the method ready on an engine, and each protocol
is a module that yields flat measurement rows: `latency` (request by request), `throughput` (against the batch size),
`lengths` (against the number of drafted tokens, and what a forward of q tokens costs), `traces` (every position of an
answer drafted, for the replay) and `lossless` (does the output follow the target's law?).
"""
