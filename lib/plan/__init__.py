"""Sweeps that belong together, and what comes before and after them, in one go: `python -m lib.plan bridge`.

A plan of `params/plans.yaml` is a list of stages, each a command of this package, in order of priority (`stages`). The
command line and the cells of every stage are checked before the first one starts; then each has the terminal to itself,
in a process of its own (`running`). A stage that fails does not keep the later ones from running, since what they need
of it may be complete; Ctrl-C does, and so does a mistake in a command. At the end stand what became of each stage and
how to go on (`summary`). A plan remembers nothing: its commands keep what is done, so a plan that was stopped goes on
when it is started again.
"""
