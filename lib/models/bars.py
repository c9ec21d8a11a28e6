"""The progress bars of transformers, which appear in red below a notebook's cell and tear our own apart."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def hidden() -> Iterator[None]:
    """transformers without its bars; afterwards they are as they were."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
