"""A cache of trained models: each is built once, by one process, and appears complete or not at all.

A model lives in `<CACHE>/<kind>/<name>-<key>`, where the key hashes everything its weights depend on. It is built in a
temporary sibling folder under a file lock and renamed when it is finished, so a training that is killed leaves nothing
that could be taken for a model; what it does leave is swept away by the next one. `manifest.json` holds the hash of
every file, so a damaged folder is noticed before it is loaded, and built again.
"""

import ast
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from lib import paths

MANIFEST = "manifest.json"


def source_hash(modules: Sequence[str]) -> str:
    """Hash of what modules do, by name: their syntax trees without docstrings, so that a new comment trains nothing."""
    digest = hashlib.sha256()
    for module in sorted(modules):
        tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(getattr(node, "body", None), list) and ast.get_docstring(_as_documented(node)) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


def _as_documented(node: ast.AST) -> ast.AST:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return node if isinstance(node, documented) else ast.Module(body=[], type_ignores=[])


def key_of(facts: dict[str, object]) -> str:
    """Ten hexadecimal digits that change when anything in `facts` (JSON-able) changes."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]


def folder(kind: str, name: str, key: str) -> Path:
    """Where a model is, or would be, cached."""
    return paths.CACHE / kind / f"{name}-{key}"


def is_complete(place: Path) -> bool:
    """Whether a folder holds exactly what was written when it was built."""
    try:
        listed = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        return bool(listed) and all(_digest(place / file) == digest for file, digest in listed.items())
    except (OSError, ValueError, AttributeError):
        return False


def get(kind: str, name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of a cached model, built first if it is missing or damaged.

    Args:
        build: writes the model's files into the empty folder it is given.
    """
    place = folder(kind, name, key)
    if is_complete(place):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.parent / f".{place.name}.lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        print(f"Waiting for another process that is making {name}.", file=sys.stderr)
        lock.acquire()
    try:
        if not is_complete(place):
            _build(place, name, build)
    finally:
        lock.release()
    return place


def _build(place: Path, name: str, build: Callable[[Path], None]) -> None:
    """Build in a temporary sibling, then rename. Only ever called by the holder of the lock."""
    if place.exists():
        print(f"The cached model {place} is damaged: {name} is trained again.", file=sys.stderr)
        shutil.rmtree(place)
    for leftover in place.parent.glob(f".{place.name}.partial-*"):  # of trainings that were killed
        shutil.rmtree(leftover, ignore_errors=True)
    partial = place.parent / f".{place.name}.partial-{os.getpid()}"
    try:
        partial.mkdir()
        build(partial)
        digests = {
            str(file.relative_to(partial)): _digest(file) for file in sorted(partial.rglob("*")) if file.is_file()
        }
        (partial / MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
