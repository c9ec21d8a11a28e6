"""What a piece of generation cost, counted where it happens: in hooks on the model's forward.

Nothing here is derived from the length of an output. A `CostMeter` hangs on the model while a generator runs, sees
every forward call of it (ours, or those that transformers' `generate` makes) and reads tokens, cache length and
logit rows off the tensors themselves. The caller adds what no hook can see: how many bytes its KV caches held.

Three counts of the work are kept apart because they answer different questions:
- `token_forwards`: positions pushed through the transformer, split in prefill (the cache was empty) and decode;
- `flops_2nd`: the textbook 2 x parameters x tokens;
- `flops`: what the kernels really multiply: linear layers, attention over the cache (queries x keys, masked or
  not), and the LM head for only those positions whose logits were asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass
class Cost:
    """Cost of one generation job.

    Tokens and calls are counts, times seconds, memory bytes, FLOPs floating-point operations.
    """

    prefill_tokens: int = 0
    decode_tokens: int = 0
    prefill_calls: int = 0
    decode_calls: int = 0
    flops: int = 0
    flops_2nd: int = 0
    kv_bytes: int = 0  # every KV cache the job filled, at its final size, summed: what keeping all contexts would take
    kv_bytes_peak: int = 0  # KV caches held at one moment
    peak_memory_bytes: int | None = None  # above the level at the start; None where it cannot be measured
    prefill_s: float = 0.0
    wall_s: float = 0.0

    @property
    def token_forwards(self) -> int:
        return self.prefill_tokens + self.decode_tokens

    @property
    def forward_calls(self) -> int:
        return self.prefill_calls + self.decode_calls

    @property
    def decode_s(self) -> float:
        """Everything that is not prefill: decode forwards, sampling, bookkeeping."""
        return self.wall_s - self.prefill_s

    def row(self) -> dict[str, Any]:
        """Flat record for a table."""
        return asdict(self) | {
            "token_forwards": self.token_forwards,
            "forward_calls": self.forward_calls,
            "decode_s": self.decode_s,
        }


@dataclass(frozen=True)
class ModelShape:
    """The figures of a decoder that FLOP counts need."""

    parameters: int  # all of them, as the textbook 2 x parameters x tokens uses
    linear: int  # weights of the linear layers inside the blocks
    head: int  # weights of the LM head: hidden size x vocabulary
    layers: int
    attention_width: int  # query heads x head size

    @classmethod
    def of(cls, model: nn.Module) -> ModelShape:
        config = model.config
        head = model.get_output_embeddings()
        linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            parameters=sum(p.numel() for p in model.parameters()),
            linear=linear,
            head=head.weight.numel(),
            layers=config.num_hidden_layers,
            attention_width=config.num_attention_heads * head_dim,
        )

    def flops(self, tokens: int, query_key_pairs: int, logit_rows: int) -> int:
        """Multiply-adds x 2 of one forward.

        Softmax, norms and rotary angles are left out, as `torch.utils.flop_counter` does.
        """
        attention = 2 * 2 * self.layers * self.attention_width * query_key_pairs
        return 2 * self.linear * tokens + attention + 2 * self.head * logit_rows


class CostMeter:
    """Counts every forward of `model` between `__enter__` and `__exit__`.

    >>> with CostMeter(model) as meter:      # doctest: +SKIP
    ...     ...                              # anything that calls the model
    ...     meter.hold([cache])              # at the moments when the caller's KV memory is largest
    ...     meter.retire([cache])            # when the cache is done with
    >>> meter.cost.decode_tokens             # doctest: +SKIP
    """

    def __init__(self, model: nn.Module) -> None:
        self.cost = Cost()
        self._model = model
        self._shape = _shape_of(model)
        self._device = next(model.parameters()).device
        self._memory = PeakMemory(self._device)

    def __enter__(self) -> CostMeter:
        self._hooks = [
            self._model.register_forward_pre_hook(self._before),
            self._model.register_forward_hook(self._after, with_kwargs=True),
        ]
        self._memory.start()
        self._synchronise()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self._synchronise()
        self.cost.wall_s = time.perf_counter() - self._start
        self.cost.peak_memory_bytes = self._memory.stop()
        for hook in self._hooks:
            hook.remove()

    def hold(self, caches: Iterable[Any]) -> None:
        """Report the KV caches that are alive together now; the peak is kept."""
        self.cost.kv_bytes_peak = max(self.cost.kv_bytes_peak, sum(map(kv_bytes, caches)))

    def retire(self, caches: Iterable[Any]) -> None:
        """Report KV caches that have reached their final size, each once."""
        self.cost.kv_bytes += sum(map(kv_bytes, caches))

    def count_kv(self, held: int, kept: int = 0) -> None:
        """The same for KV memory that is no transformers cache: `held` bytes at its fullest, `kept` of them live on."""
        self.cost.kv_bytes_peak = max(self.cost.kv_bytes_peak, held)
        self.cost.kv_bytes += held - kept

    def lap(self) -> Cost:
        """What has been spent so far, seconds too; the peak of memory is known at the end alone."""
        self._synchronise()
        return replace(self.cost, wall_s=time.perf_counter() - self._start)

    def count_forward(self, tokens: int, query_key_pairs: int) -> None:
        """Report a decode forward that went past the hooks, with logits of all its tokens: a compiled one."""
        self._count(False, tokens, self._shape.flops(tokens, query_key_pairs, tokens))

    def _before(self, *_: Any) -> None:
        self._call_start = time.perf_counter()

    def _after(self, _model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        queries, logit_rows = ids.numel(), output.logits.shape[0] * output.logits.shape[1]
        if (pool := kwargs.get("pool")) is not None:  # a KV store of our own, which knows what it multiplied
            prefills, pairs = False, pool.query_key_pairs
        else:
            cache = output.past_key_values
            keys = cache.get_seq_length() if cache is not None else ids.shape[1]
            prefills, pairs = keys == ids.shape[1], queries * keys  # a prefill found the cache empty
        self._count(prefills, queries, self._shape.flops(queries, pairs, logit_rows))

    def _count(self, prefills: bool, tokens: int, flops: int) -> None:
        cost = self.cost
        if prefills:
            self._synchronise()
            cost.prefill_tokens += tokens
            cost.prefill_calls += 1
            cost.prefill_s += time.perf_counter() - self._call_start
        else:
            cost.decode_tokens += tokens
            cost.decode_calls += 1
        cost.flops += flops
        cost.flops_2nd += 2 * self._shape.parameters * tokens

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def kv_bytes(cache: Any) -> int:
    """Bytes of the filled part of a transformers `Cache`, read off its key and value tensors."""
    layers = [layer for layer in cache.layers if layer.keys is not None]
    return sum(t.numel() * t.element_size() for layer in layers for t in (layer.keys, layer.values))


def _shape_of(model: nn.Module) -> ModelShape:
    """`ModelShape` of `model`, walked once: it does not change, and a meter is made for every job."""
    if not hasattr(model, "_recount_shape"):
        model._recount_shape = ModelShape.of(model)
    return model._recount_shape


class PeakMemory:
    """Peak bytes above the starting level: CUDA's allocator, or on Linux the process's resident high-water mark.

    Writing 5 to /proc/self/clear_refs resets that mark (proc(5)). Resident memory is coarse: an allocator that
    reuses freed pages shows 0 for small models, so KV bytes are the number to compare on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None

    def start(self) -> None:
        self._base: int | None = None
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
            self._base = torch.cuda.memory_allocated(self._cuda)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._base = _status_kib("VmRSS") * 1024
        except OSError:  # not Linux, or a container that forbids it
            self._base = None

    def stop(self) -> int | None:
        if self._base is None:
            return None
        if self._cuda is not None:
            return torch.cuda.max_memory_allocated(self._cuda) - self._base
        return max(0, _status_kib("VmHWM") * 1024 - self._base)


def _status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise OSError(f"{field} is not in /proc/self/status")
