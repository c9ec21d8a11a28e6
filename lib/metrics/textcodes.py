"""What a text costs in bytes when it is sent as text: coders that anyone would try before sending a model's states.

    code = fit("deflate_dict", training_texts)
    blob = code.encode("Ada has 14 coins.")     len(blob) is the cost, code.decode(blob) the text again

`utf8` and `deflate` need nothing beforehand; `deflate_dict` and `zstd_dict` need a dictionary that both sides hold,
learned by `fit`, and `side_bytes` is its size. The texts given to `fit` have to be training texts: a dictionary that
has seen a test text codes it in a few bytes, which no real sender could do. What can be varied about a dictionary is
chosen on the last tenth of those texts, so a caller has no settings to tune on anything else.

The frames carry nothing that both sides know: deflate without zlib's header and checksum, zstandard without magic
number, checksum, length and dictionary id. So a foreign or damaged blob is not always noticed; a wire format that
carries one adds a checksum of its own. Token ids have a code too, ceil(log2 V) bits each (`pack_ids`).
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import zstandard

HELD_OUT = 10  # one text in so many chooses between dictionaries
DEFLATE_WINDOW = 2**15 - 262  # bytes: zlib looks back this far, a longer dictionary is dead weight
STRETCHES = (8, 12, 20)  # bytes: phrases of natural text are short, those of generated text long
POOL = 2**18  # bytes of texts that a dictionary of whole texts is chosen from; of generated ones half would do
ZSTD_SIZES = (2**12, 2**14, 2**15, 112_640)  # bytes; the last is what the zstd tool trains
ZSTD_SEGMENTS = (64, 256)  # bytes that the trainer takes over at once
ZSTD_LEVEL = 19


@dataclass(frozen=True)
class Code:
    """A lossless code of texts: `decode(encode(text)) == text` for every text.

    decode raises ValueError for bytes that it can tell are not of this code. side_bytes: what both sides hold
    beforehand.
    """

    name: str
    encode: Callable[[str], bytes]
    decode: Callable[[bytes], str]
    side_bytes: int = 0


def fit(name: str, corpus: Sequence[str] = ()) -> Code:
    """The code of this name, one of CODERS; `corpus` holds training texts, for the codes that learn from some.

    Raises ValueError for any other name, and where the texts are too few for a dictionary.
    """
    if name not in CODERS:
        raise ValueError(f"{name!r} is not a coder of texts: use one of {', '.join(CODERS)}.")
    return CODERS[name](corpus)


def pack_ids(ids: Iterable[int], vocabulary: int) -> bytes:
    """Token ids in 0..vocabulary - 1 as ceil(log2 vocabulary) bits each, the first in the highest bits.

    Ids of less than 8 bits would fit into the padding of the last byte, so there a single 1 bit follows the last id.
    ValueError for an id outside the vocabulary.
    """
    ids, width = list(ids), _id_bits(vocabulary)
    if any(not 0 <= token < vocabulary for token in ids):
        raise ValueError(f"A token id is outside of 0..{vocabulary - 1}: give the size of the vocabulary it is from.")
    bits = "".join(f"{token:0{width}b}" for token in ids) + _end(width)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def unpack_ids(data: bytes, vocabulary: int) -> list[int]:
    """The token ids that `pack_ids` packed with the same vocabulary; ValueError for what it cannot have written."""
    width = _id_bits(vocabulary)
    bits = "".join(f"{byte:08b}" for byte in data)
    length = bits.rfind("1") if _end(width) else len(bits) // width * width
    ids = [int(bits[at : at + width], 2) for at in range(0, max(length, 0), width)]
    if any(token >= vocabulary for token in ids) or pack_ids(ids, vocabulary) != data:
        raise ValueError(f"These {len(data)} bytes are not packed ids of {vocabulary} tokens: give whole messages.")
    return ids


def _id_bits(vocabulary: int) -> int:
    if vocabulary < 2:
        raise ValueError(f"A vocabulary of {vocabulary} has no ids to tell apart: give at least 2.")
    return (vocabulary - 1).bit_length()


def _end(width: int) -> str:
    return "1" if width < 8 else ""


def _utf8(corpus: Sequence[str]) -> Code:
    return _over_bytes("utf8", bytes, bytes, 0)


def _deflate(corpus: Sequence[str]) -> Code:
    return _deflate_code("deflate", b"")


def _deflate_dict(corpus: Sequence[str]) -> Code:
    """The dictionary is made of whole training texts: those that together show most of what the corpus repeats."""

    def made(texts: list[bytes], stretch: int) -> Code:
        pool = [text for text, end in zip(texts, accumulate(map(len, texts)), strict=True) if end <= POOL]
        return _deflate_code("deflate_dict", covering(pool, stretch, DEFLATE_WINDOW))

    return _best(_enough(corpus), made, STRETCHES)


def _zstd_dict(corpus: Sequence[str]) -> Code:
    """The dictionary is the one that zstandard's own trainer makes, of the size and segments that do best."""

    def made(texts: list[bytes], setting: tuple[int, int]) -> Code:
        size, segment = setting
        trained = zstandard.train_dictionary(size, texts, k=segment, d=8, level=ZSTD_LEVEL)
        return _zstd_code(trained.as_bytes())

    settings = [(size, segment) for size in ZSTD_SIZES for segment in ZSTD_SEGMENTS]
    return _best(_enough(corpus), made, settings)


CODERS: dict[str, Callable[[Sequence[str]], Code]] = {
    "utf8": _utf8,
    "deflate": _deflate,
    "deflate_dict": _deflate_dict,
    "zstd_dict": _zstd_dict,
}


def covering(texts: Sequence[bytes], stretch: int, size: int) -> bytes:
    """At most `size` bytes of texts, chosen greedily to hold the stretches that are most frequent in all of them.

    A text is worth the occurrences, in `texts`, of its stretches of `stretch` bytes that no chosen text has, per byte.
    The most valuable come last, since deflate writes small distances in fewer bits (zlib manual, deflateSetDictionary).
    Worths only fall as texts are chosen, so one that is still the largest when it is looked at again is the largest.
    """
    held = [{text[at : at + stretch] for at in range(len(text) - stretch + 1)} for text in texts]
    frequency = Counter(one for stretches in held for one in stretches)

    def worth(index: int) -> float:
        return sum(frequency[one] for one in held[index] - seen) / len(texts[index])

    seen: set[bytes] = set()
    heap = [(-worth(index), index) for index in range(len(texts))]
    heapq.heapify(heap)
    chosen: list[bytes] = []
    room = size
    while heap and room > 0:
        index = heapq.heappop(heap)[1]
        now = -worth(index)
        if heap and (now, index) > heap[0]:
            heapq.heappush(heap, (now, index))
        elif now < 0:
            chosen.append(texts[index])
            room -= len(texts[index])
            seen |= held[index]
    return b"".join(reversed(chosen))[-size:]


def _enough(corpus: Sequence[str]) -> list[bytes]:
    """The texts that are not empty, as bytes; ValueError for so few that none could be held out."""
    texts = [text.encode() for text in corpus if text]
    if len(texts) < 2 * HELD_OUT:
        raise ValueError(f"A dictionary of {len(texts)} training texts says nothing: give at least {2 * HELD_OUT}.")
    return texts


def _best(texts: list[bytes], made: Callable, settings: Iterable) -> Code:
    """The code of the setting that is shortest on the last of the texts when fitted on the others, fitted on all."""
    kept = len(texts) // HELD_OUT
    fitted, held = texts[:-kept], [text.decode() for text in texts[-kept:]]

    def cost(setting: object) -> int:
        code = made(fitted, setting)
        return sum(len(code.encode(text)) for text in held)

    return made(texts, min(settings, key=cost))


def _deflate_code(name: str, dictionary: bytes) -> Code:
    """Raw deflate (RFC 1951) at level 9, after the same dictionary on both sides."""
    options = {"zdict": dictionary} if dictionary else {}
    fresh = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, **options)

    def encode(text: bytes) -> bytes:
        packer = fresh.copy()
        return packer.compress(text) + packer.flush()

    def decode(blob: bytes) -> bytes:
        reader = zlib.decompressobj(-zlib.MAX_WBITS, **options)
        text = reader.decompress(blob)
        if not reader.eof or reader.unused_data:
            raise ValueError("it does not end where its text ends")
        return text

    return _over_bytes(name, encode, decode, len(dictionary))


def _zstd_code(dictionary: bytes) -> Code:
    """A zstandard frame (RFC 8878) without the magic number and every optional field."""
    smallest = zstandard.ZstdCompressionParameters.from_level(
        ZSTD_LEVEL,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=0,
        write_content_size=0,
        write_dict_id=0,
    )
    shared = zstandard.ZstdCompressionDict(dictionary)
    packer = zstandard.ZstdCompressor(dict_data=shared, compression_params=smallest)
    unpacker = zstandard.ZstdDecompressor(dict_data=shared, format=zstandard.FORMAT_ZSTD1_MAGICLESS)

    def decode(blob: bytes) -> bytes:
        reader = unpacker.decompressobj()
        text = reader.decompress(blob)
        if not reader.eof or reader.unused_data:
            raise ValueError("it does not end where its text ends")
        return text

    return _over_bytes("zstd_dict", packer.compress, decode, len(dictionary))


def _over_bytes(name: str, pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes], side_bytes: int) -> Code:
    """A code of texts out of one of their UTF-8 bytes; whatever goes wrong in decoding is one ValueError."""

    def decode(blob: bytes) -> str:
        try:
            return unpack(blob).decode()
        except (ValueError, zlib.error, zstandard.ZstdError) as reason:
            raise ValueError(f"These {len(blob)} bytes are no {name} text ({reason}): send them whole.") from None

    return Code(name, lambda text: pack(text.encode()), decode, side_bytes)
