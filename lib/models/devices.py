"""Which device a model goes to: what a user typed, or the first GPU where there is one."""

import torch

from lib.models.registry import ModelError


def choose(device: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:1`, ...; ModelError for what is none, or not in this machine."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ModelError(f"{device!r} is not a device: use auto, cpu, cuda, or cuda:1 for the second GPU.") from None
    gpus = torch.cuda.device_count()
    if place.type == "cuda" and (place.index or 0) >= gpus:
        raise ModelError(f"Device '{device}' was asked for but torch sees {gpus} GPUs: use 'cpu' or 'auto'.")
    return place
