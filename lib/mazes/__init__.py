"""The protocol of 3a: which mazes a seed has, how its models are trained once and kept, and what is asked of them.

`sets` makes the mazes, `study` trains an arm or finds it trained, `evaluation` turns a model into rows; the notebook
puts them in order. Everything below (data, models, metrics) knows nothing of this.
"""
