"""Arithmetic coding of texts under a causal language model: the shortest that sender and receiver can make of a text
when both hold the model, by a real coder that gives the text back.

    blobs = encode(lm, questions)      each by itself: any of them can be decoded alone
    decode(lm, blobs) == questions

A text is read as the bridge study's models were taught to: BOS, the text, a line end. The line end ends the message; a
text that has one itself ends with the tokenizer's EOS. A text that the tokens do not spell back (a word the tokenizer
has not, a text longer than the model's context) is sent as UTF-8. Which of the three it is comes first and costs 0.01
bits in the first case.

Both sides have to get the same shares out of a network, to the last bit, and floating point does not give that: sums
come out differently in a batch of another size. So the network runs in float64, where cumulative probabilities then
differ by 2e-15 (by 1e-6 in float32; the trained source, alone or among 256, on one thread or two), and these are
rounded to 16 bits or a few more. The two sides can only disagree where one lies within TOLERANCE of a rounding edge.
The sender sees that and sends the rare text that has one (1 in 100,000 of our questions) as UTF-8. So all that has to
hold is that both sides' probabilities agree to TOLERANCE, as they do with the same software. Other machines, where even
the table of rotary angles might come out otherwise, were not tried.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from lib import range_coder
from lib.models.hub import LoadedModel

TOLERANCE = 1e-12  # of a cumulative probability: far above what rounding does in float64, far below 2**-16
LEAST_BITS = 16  # of a share
SPARE_BITS = 6  # beyond those of the vocabulary: 64 shares per entry, so that one for each costs 0.02 bits a token
BATCH = 256  # texts side by side
LINE, EOS, RAW = range(3)  # manners of sending a text: with one of two ends, or as UTF-8
BYTES = 257  # symbols of a raw text: its end, then the byte values
# These compute in float32 whatever they are given; torch's own does not.
NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")

Share = tuple[int, int]  # start and size, of 2**bits
# Given who is still there, the borders of their shares [A, V + 1] and which are doubtful: the token of each, or None.
Step = Callable[[list[int], np.ndarray, np.ndarray], list[int | None]]


def encode(lm: LoadedModel, texts: Sequence[str]) -> list[bytes]:
    """Each text as bytes; within 2 bytes of its information under the model, -log2 of its probability with its end.

    A copy of the model in float64, 8 bytes per parameter, lives as long as the call, on the model's device.
    """
    coder = _Coder(lm)
    return [blob for part in _batches(texts) for blob in _encode(coder, part)]


def decode(lm: LoadedModel, blobs: Sequence[bytes]) -> list[str]:
    """The texts again, for blobs of `encode` under the same weights, in any order, all or some.

    Raises ValueError for a blob that goes on past the model's context or is not UTF-8. Most damage just gives another
    text: a wire format that carries a blob adds a checksum.
    """
    coder = _Coder(lm)
    return [text for part in _batches(blobs) for text in _decode(coder, part)]


def side_bytes(lm: LoadedModel) -> int:
    """What both sides hold beforehand: the weights in the precision they are loaded in, and the tokenizer's file."""
    return sum(weight.numel() * weight.element_size() for weight in lm.model.parameters()) + table_bytes(lm)


def table_bytes(lm: LoadedModel) -> int:
    """Size of the tokenizer's file, which is all that packed token ids need."""
    return len(lm.tokenizer.backend_tokenizer.to_str().encode())


def in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that computes in float64 but for the table of rotary angles, which depends on positions only."""
    exact = copy.deepcopy(model).double()
    for parent in list(exact.modules()):
        for name, module in list(parent.named_children()):
            if type(module).__name__ in NORMS:
                norm = nn.RMSNorm(module.weight.shape, module.variance_epsilon, device=module.weight.device)
                norm.weight = module.weight
                setattr(parent, name, norm)
    return exact.eval()


class _Coder:
    """What both sides do alike: run the model, cut shares out of its probabilities, spell."""

    def __init__(self, lm: LoadedModel) -> None:
        self.tokenizer, self.model = lm.tokenizer, in_float64(lm.model)
        stop = lm.tokenizer.eos_token_id if lm.tokenizer.eos_token_id is not None else lm.stop_ids[0]
        line = self.ids("\n")
        self.begin = lm.tokenizer.bos_token_id if lm.tokenizer.bos_token_id is not None else stop
        self.ends = {LINE: line[0] if len(line) == 1 else stop, EOS: stop}
        self.vocabulary = self.model.get_output_embeddings().weight.shape[0]
        self.bits = max(LEAST_BITS, self.vocabulary.bit_length() + SPARE_BITS)
        self.context = self.model.config.max_position_embeddings

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def spelled(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def manner(self, text: str, ids: list[int]) -> int:
        """How a text is sent: with which end, or raw."""
        if len(ids) >= self.context or self.spelled(ids) != text:
            return RAW
        return next((kind for kind, end in self.ends.items() if end not in ids), RAW)

    def share_of(self, manner: int) -> Share:
        """The usual manner has nearly everything, the two others a 256th each."""
        rare = 1 << self.bits - 8
        usual = (1 << self.bits) - 2 * rare
        return (0, usual) if manner == LINE else (usual + (manner - 1) * rare, rare)

    def share_of_symbol(self, symbol: int) -> Share:
        """Of a raw text."""
        size = (1 << self.bits) // BYTES
        return symbol * size, size

    def borders(self, logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Token t of a row owns borders[t] to borders[t + 1], at least 1: int64 [B, V + 1]. And which of them (bool)
        lie so close to a rounding edge that the other side may see another number."""
        room = (1 << self.bits) - self.vocabulary  # besides the 1 that every token gets
        below = torch.softmax(logits, -1).cumsum(-1).cpu().numpy() * room
        below = np.concatenate([np.zeros((len(below), 1)), below[:, :-1], np.full((len(below), 1), room)], axis=1)
        doubtful = np.abs(below % 1 - 0.5) <= TOLERANCE * room
        return np.rint(below).clip(max=room).astype(np.int64) + np.arange(self.vocabulary + 1), doubtful

    @torch.no_grad()
    def side_by_side(self, alive: list[int], step: Step) -> None:
        """Read texts a token at a time until `step` says of each that it has ended. All begin alike: no padding."""
        cache, tokens = DynamicCache(config=self.model.config), [self.begin] * len(alive)
        while alive:
            ids = torch.tensor(tokens, device=self.model.device)[:, None]
            logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1]
            chosen = step(alive, *self.borders(logits))
            going = [place for place, token in enumerate(chosen) if token is not None]
            if len(going) < len(chosen):
                cache.batch_select_indices(torch.tensor(going, dtype=torch.long, device=self.model.device))
            alive, tokens = [alive[place] for place in going], [chosen[place] for place in going]


def _batches(items: Sequence) -> Iterator[Sequence]:
    return (items[begin : begin + BATCH] for begin in range(0, len(items), BATCH))


def _encode(coder: _Coder, texts: Sequence[str]) -> list[bytes]:
    ids = [coder.ids(text) for text in texts]
    manners = [coder.manner(text, own) for text, own in zip(texts, ids, strict=True)]
    messages = [[coder.share_of(manner)] for manner in manners]
    raw = {i for i, manner in enumerate(manners) if manner == RAW}
    told = [i for i in range(len(texts)) if i not in raw]
    left = {i: iter([*ids[i], coder.ends[manners[i]]]) for i in told}

    def step(alive: list[int], borders: np.ndarray, doubtful: np.ndarray) -> list[int | None]:
        tokens = [next(left[i]) for i in alive]
        for i, token, row, doubt in zip(alive, tokens, borders, doubtful, strict=True):
            messages[i].append((int(row[token]), int(row[token + 1] - row[token])))
            if doubt[token] or doubt[token + 1]:
                raw.add(i)
        return [None if token == coder.ends[manners[i]] else token for i, token in zip(alive, tokens, strict=True)]

    coder.side_by_side(told, step)
    sent = [_raw(coder, text) if i in raw else messages[i] for i, text in enumerate(texts)]
    return [range_coder.encode(*zip(*shares, strict=True), coder.bits) for shares in sent]


def _raw(coder: _Coder, text: str) -> list[Share]:
    symbols = (*(byte + 1 for byte in text.encode()), 0)
    return [coder.share_of(RAW), *map(coder.share_of_symbol, symbols)]


def _decode(coder: _Coder, blobs: Sequence[bytes]) -> list[str]:
    readers = [range_coder.Decoder(blob, coder.bits) for blob in blobs]
    manners = [_read_manner(coder, reader) for reader in readers]
    found: list[list[int]] = [[] for _ in blobs]

    def token(i: int, borders: np.ndarray) -> int | None:
        if len(found[i]) >= coder.context:
            raise ValueError(f"A message has no end within the model's {coder.context} tokens: get it again.")
        token = int(np.searchsorted(borders, readers[i].target(), side="right")) - 1
        readers[i].consume(int(borders[token]), int(borders[token + 1] - borders[token]))
        if token == coder.ends[manners[i]]:
            return None
        found[i].append(token)
        return token

    def step(alive: list[int], borders: np.ndarray, doubtful: np.ndarray) -> list[int | None]:
        return [token(i, row) for i, row in zip(alive, borders, strict=True)]

    coder.side_by_side([i for i, manner in enumerate(manners) if manner != RAW], step)
    return [
        _read_raw(coder, reader) if manner == RAW else coder.spelled(ids)
        for reader, manner, ids in zip(readers, manners, found, strict=True)
    ]


def _read_manner(coder: _Coder, reader: range_coder.Decoder) -> int:
    target = reader.target()
    manner = next(kind for kind in (RAW, EOS, LINE) if target >= coder.share_of(kind)[0])
    reader.consume(*coder.share_of(manner))
    return manner


def _read_raw(coder: _Coder, reader: range_coder.Decoder) -> str:
    """The rest of a raw message. It ends at the latest where the bytes do: zeros follow, and symbol 0 is the end."""
    found = bytearray()
    while symbol := min(reader.target() // coder.share_of_symbol(0)[1], BYTES - 1):
        reader.consume(*coder.share_of_symbol(symbol))
        found.append(symbol - 1)
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise ValueError(f"A message of {len(found)} bytes is not UTF-8: get it again.") from None
