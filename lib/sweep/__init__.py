"""Runs the cells of a preset, each a notebook in a process of its own, and loses nothing when something dies.

`planning` says what there is to do, `loop` does it with one of two executors (`processes` on this machine, `on_ray` on
a cluster), `cell` is what happens inside a process, `attempts` keeps two sweeps from doing the same, `board` shows it.
A cell is done when a complete run of its configuration lies in the runs folder: nothing else is ever asked, so a sweep
that was stopped or killed, at any point, resumes by being started again.
"""
