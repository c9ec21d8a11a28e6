"""YAML as this project reads it: plain data, each key once, of a size that a person could have written.

PyYAML's safe loader makes no Python objects, but it takes the second of two equal keys without a word, lets aliases of
aliases stand for billions of values, and raises whatever comes when a value is malformed. Here all of
that, and every error of syntax, is one `YamlError`.
"""

from pathlib import Path
from typing import Any

import yaml

MOST_VALUES = 50_000  # with aliases written out; the largest file of params/ has 2,000
# What PyYAML raises besides its own errors, for a number, a date or a tagged value that is none.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError)


class YamlError(ValueError):
    """Text that is not YAML as read here; the message says why, in words that go between brackets."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice in one mapping."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def parse(text: str) -> Any:
    """The plain data that a YAML text stands for; None for an empty one. Raises YamlError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise YamlError(place + _one_line(error.problem or error.context)) from None
    except yaml.YAMLError as error:
        raise YamlError(_one_line(str(error))) from None
    except RecursionError:
        raise YamlError("it is nested too deep") from None
    except MALFORMED as error:
        raise YamlError(f"a value in it is malformed: {_one_line(str(error))}") from None


def read(path: Path) -> Any:
    """The plain data in a file of UTF-8; YamlError also where it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise YamlError("it is not UTF-8") from None
    except OSError as error:
        raise YamlError(str(error.strerror)) from None


def _check_size(root: yaml.Node) -> None:
    """YamlError where the values, each alias counted as what it stands for, are too many, or without end."""
    waiting, count = [root], 0
    while waiting:
        node, count = waiting.pop(), count + 1
        if count > MOST_VALUES:
            raise YamlError(f"it stands for more than {MOST_VALUES:,} values")
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:200]
