"""Placeholder while the shim is written: papermill loads this module at import."""


class NotebookAlias:
    """Registered for paths that begin with `nb/`."""
