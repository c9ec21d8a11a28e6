"""Runs the cells of a preset, each a notebook in a process of its own, and loses nothing when something dies."""
