"""Archives of runs: whole or refused, the same bytes for the same runs, and never a file outside the runs folder."""

import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import paths, presets, provenance, runs
from lib.params import config_hash, resolve, schema, stored_hash
from lib.runs import __main__ as command
from lib.runs import archive, packing, unpacking, writing
from lib.runs.archive import ArchiveError

EXPERIMENT = "1a3_scaling"
BASIC = {"arms": ["naive", "eab"], "prompts": 2}
ARTEFACT = random.Random(0).randbytes(3000)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Path]:
    """A folder with three finished runs, one of a benchmark and one with trained weights."""
    root = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "environment", lambda *_: {"git": {"commit": "c" * 40, "dirty": False}})
        for seed in (1, 2):
            make(root, EXPERIMENT, seed=seed)
        folder = make(root, "bench/sampling", label="b")
        (folder / "eagle").mkdir()
        (folder / "eagle" / "head ü.safetensors").write_bytes(ARTEFACT)
        (folder / "log.txt").write_bytes(b"")
        yield root


def make(root: Path, experiment: str, **raw) -> Path:
    run = runs.open_run(experiment, BASIC | raw | {"runs_dir": str(root)})
    run.measure(arm="eab", seconds=1.0)
    run.response(text="hé\nllo")
    run.finish({"speedup": 2.0})
    return run.dir


@pytest.fixture(scope="module")
def packed(here) -> bytes:
    return pack(here, EXPERIMENT, "bench/sampling")


def pack(root: Path, *names: str) -> bytes:
    out = io.BytesIO()
    packing.pack([folder for name in names for folder in packing.find(name, root)], out)
    return out.getvalue()


def tree(root: Path) -> dict[str, bytes | str]:
    """Everything below a folder: content of files, goal of links."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        found[str(path.relative_to(root))] = kind
    return found


def unpack(content: bytes, root: Path) -> tuple[list[Path], list[Path]]:
    return unpacking.unpack(io.BytesIO(content), root)


def refused(content: bytes, root: Path) -> str:
    """The sentence an import of this ends in; nothing may have changed, beside the runs folder either."""
    before = tree(root.parent)
    with pytest.raises(ArchiveError) as caught:
        unpack(content, root)
    assert tree(root.parent) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


class TestThereAndBack:
    def test_every_byte_travels(self, here, packed, tmp_path):
        new, present = unpack(packed, tmp_path / "runs")
        assert (len(new), present) == (3, [])
        assert tree(tmp_path / "runs") == tree(here)
        for experiment in (EXPERIMENT, "bench/sampling"):
            assert runs.load(experiment, tmp_path / "runs").equals(runs.load(experiment, here))

    def test_the_same_runs_make_the_same_bytes(self, here, packed, tmp_path):
        shutil.copytree(here, tmp_path / "copy", copy_function=shutil.copyfile)  # other times
        again = pack(tmp_path / "copy", "bench/sampling", EXPERIMENT, EXPERIMENT)
        assert again == packed

    def test_any_tar_reads_it(self, here, packed):
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            names = tar.getnames()
            assert names[0] == archive.MANIFEST
            assert names[1:] == sorted(name for name, kind in tree(here).items() if kind != "folder")
            assert {(m.uid, m.gid, m.uname, m.mtime, m.mode) for m in tar} == {(0, 0, "", 0, 0o644)}
            listed = json.load(tar.extractfile(archive.MANIFEST))["files"]
            for entry in listed:
                content = tar.extractfile(entry["path"]).read()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size"], entry["sha256"])

    def test_a_run_that_is_here_is_counted_and_left_alone(self, packed, tmp_path):
        unpack(packed, tmp_path / "runs")
        stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        new, present = unpack(packed, tmp_path / "runs")
        assert (new, len(present)) == ([], 3)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == stamps

    @pytest.mark.parametrize("change", ["other", "more", "less", "link"])
    def test_a_run_of_that_name_with_other_content_refuses_them_all(self, here, packed, tmp_path, change):
        root = tmp_path / "runs"
        (mine,) = (f for f in packing.find("bench/sampling", here))
        target = root / "bench" / "sampling" / mine.name
        shutil.copytree(mine, target)
        if change == "other":
            (target / "log.txt").write_text("mine")
        if change == "more":
            (target / "note.txt").write_text("mine")
        if change in ("less", "link"):
            (target / "log.txt").unlink()
        if change == "link":
            (target / "log.txt").symlink_to(mine / "log.txt")
        assert "is already here with other content: move it away" in refused(packed, root)

    def test_a_sweep_counts_an_imported_run_as_done(self, tmp_path, monkeypatch):
        monkeypatch.setattr(provenance, "environment", lambda *_: {"git": {"commit": "c" * 40, "dirty": False}})
        (cell, *_) = presets.cells(EXPERIMENT, "debug")
        run = runs.open_run(EXPERIMENT, {**cell.params, "runs_dir": str(tmp_path / "theirs")})
        run.finish({})
        unpack(pack(tmp_path / "theirs", run.dir.name), tmp_path / "ours")
        wanted = config_hash(cell.resolved())
        assert [r.metrics["config_hash"] for r in runs.finished(EXPERIMENT, tmp_path / "ours")] == [wanted]
        assert len(runs.complete_with(EXPERIMENT, wanted, tmp_path / "ours")) == 1

    def test_no_file_is_ever_whole_in_memory(self, packed, tmp_path, monkeypatch):
        class Watched(io.BytesIO):
            largest = 0

            def read(self, size=-1):
                assert size >= 0
                if self.tell() > 20_000:  # the manifest, of which there is one, is
                    Watched.largest = max(Watched.largest, size)
                return super().read(size)

        monkeypatch.setattr(archive, "CHUNK", 1024)
        unpacking.unpack(Watched(packed), tmp_path)
        assert 0 < Watched.largest <= 1024 < len(ARTEFACT)

    def test_two_imports_at_once_add_each_run_once(self, here, packed, tmp_path):
        found = []
        threads = [threading.Thread(target=lambda: found.append(unpack(packed, tmp_path / "runs"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(len(new) for new, _ in found) == [0, 0, 3]
        assert tree(tmp_path / "runs") == tree(here)


class TestExport:
    def test_a_run_is_found_by_experiment_name_and_path(self, here, monkeypatch):
        folders = packing.find(EXPERIMENT, here)
        assert len(folders) == 2
        assert packing.find(folders[0].name, here) == packing.find(str(folders[0]), here) == folders[:1]
        monkeypatch.chdir(here / EXPERIMENT)
        assert packing.find(f"./{folders[0].name}", "elsewhere") == folders[:1]
        monkeypatch.chdir(folders[0])
        assert packing.find(".", here) == folders[:1]

    @pytest.mark.parametrize("experiment", [EXPERIMENT, "bench/sampling"])
    def test_an_experiment_may_be_named_by_its_folder(self, here, monkeypatch, experiment):
        wanted = packing.find(experiment, here)
        assert packing.find(str(here / experiment), "elsewhere") == wanted
        monkeypatch.chdir(here / experiment)
        assert packing.find(".", "elsewhere") == wanted

    def test_a_run_may_be_called_like_an_experiment(self, here, tmp_path):
        shutil.copytree(packing.find(EXPERIMENT, here)[0], tmp_path / EXPERIMENT)
        assert packing.find(str(tmp_path / EXPERIMENT), here) == [tmp_path / EXPERIMENT]

    def test_of_an_experiment_each_configuration_goes_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(provenance, "environment", lambda *_: {"git": {"commit": None, "dirty": None}})
        _, second = make(tmp_path, EXPERIMENT), make(tmp_path, EXPERIMENT)
        assert packing.find(EXPERIMENT, tmp_path) == [second]

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("1a3_scalng", "did you mean '1a3_scaling'?"),
            ("qqqqq", "name a folder of runs/, or one of 1a3_scaling, "),
            ("2a_specdec", "holds no complete run"),
        ],
    )
    def test_a_name_without_runs_is_one_sentence(self, here, name, words):
        with pytest.raises(ArchiveError) as caught:
            packing.find(name, here)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda f: (f / "metrics.json").unlink(), "it is not complete: it has no metrics.json"),
            (lambda f: (f / "metrics.json").write_text("{"), "metrics.json is not JSON"),
            (lambda f: (f / "responses.jsonl").write_text(""), "responses.jsonl is not the file of"),
            (lambda f: (f / "measurements.jsonl").write_bytes(b"#" * 31), "measurements.jsonl"),
            (lambda f: (f / "env.json").unlink(), "env.json is missing"),
            (lambda f: (f / "link").symlink_to("log.txt"), "link in it is a link"),
            (lambda f: (f / "back\\slash").write_text(""), "would not mean the same everywhere"),
            (lambda f: (f / ("x" * 200)).write_text(""), "does not fit in an archive"),
        ],
    )
    def test_only_what_is_complete_and_whole_is_exported(self, here, tmp_path, damage, words):
        whole, broken = packing.find(EXPERIMENT, here)
        copy = tmp_path / broken.name
        shutil.copytree(broken, copy)
        damage(copy)
        out = io.BytesIO()
        with pytest.raises(ArchiveError) as caught:
            packing.pack([whole, copy], out)
        assert words in str(caught.value)
        assert broken.name in str(caught.value)
        assert out.getvalue() == b""

    def test_a_freely_named_run_needs_a_name_that_travels(self, here, tmp_path):
        source = packing.find(EXPERIMENT, here)[0]
        for name, travels in (("mine", True), ("my run", False), ("ü", False)):
            shutil.copytree(source, tmp_path / name)
            if travels:
                packing.pack([tmp_path / name], io.BytesIO())
            else:
                with pytest.raises(ArchiveError, match="a run's name has letters, digits"):
                    packing.pack([tmp_path / name], io.BytesIO())

    def test_two_runs_of_one_name_do_not_become_one(self, here, tmp_path):
        first = packing.find(EXPERIMENT, here)[0]
        shutil.copytree(first, tmp_path / first.name)
        with pytest.raises(ArchiveError, match="have one name"):
            packing.pack([first, tmp_path / first.name], io.BytesIO())

    def test_a_file_that_changes_meanwhile_is_noticed(self, here, tmp_path, monkeypatch):
        folder = tmp_path / packing.find(EXPERIMENT, here)[0].name
        shutil.copytree(packing.find(EXPERIMENT, here)[0], folder)
        monkeypatch.setattr(archive, "manifest", lambda entries: (folder / "env.json").write_text("{}") and b"{}")
        with pytest.raises(ArchiveError, match="changed while it was exported"):
            packing.pack([folder], io.BytesIO())


class Parts:
    """An archive taken apart, to be put together again otherwise."""

    def __init__(self, packed: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            members = [(member, tar.extractfile(member).read()) for member in tar]
        self.manifest = json.loads(members[0][1])
        self.members = members[1:]

    @property
    def files(self) -> list[dict]:
        return self.manifest["files"]

    def index(self, name: str) -> int:
        """Place of the first file of that name."""
        return next(n for n, (member, _) in enumerate(self.members) if member.name.endswith(f"/{name}"))

    def replace(self, name: str, content: bytes) -> None:
        """Other content for a file, size and checksum in step."""
        n = self.index(name)
        self.members[n] = (self._member(self.members[n][0].name, content), content)
        self.seal()

    def rename(self, old: str, new: str) -> None:
        """Other paths, in both places."""
        for member, _ in self.members:
            member.name = member.name.replace(old, new)
        self.seal()

    def change_metrics(self, **changes) -> None:
        """Other entries in the first metrics.json; `config` is merged, and its hash made to fit."""
        metrics = json.loads(self.members[self.index("metrics.json")][1])
        config = metrics["config"] | changes.pop("config", {})
        metrics |= {"config": config, "config_hash": stored_hash(config)} | changes
        self.replace("metrics.json", json.dumps(metrics).encode())

    def seal(self) -> None:
        """A manifest that fits the members, in order."""
        self.members.sort(key=lambda pair: pair[0].name)
        self.manifest["files"] = [
            {"path": member.name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for member, content in self.members
        ]

    @staticmethod
    def _member(name: str, content: bytes) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        return member

    def bytes(self, first: bytes | None = None) -> bytes:
        out = io.BytesIO()
        text = json.dumps(self.manifest).encode() if first is None else first
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for member, content in [(self._member(archive.MANIFEST, text), text), *self.members]:
                tar.addfile(member, io.BytesIO(content))
        return out.getvalue()


def _kind(letter: bytes, goal: str = "") -> Callable[[Parts], None]:
    """The log.txt, which is empty, as a member of another kind."""

    def change(parts: Parts) -> None:
        member = parts.members[parts.index("log.txt")][0]
        member.type, member.linkname = letter, goal

    return change


def _path(new: str) -> Callable[[Parts], None]:
    """Another path for the log.txt, in both places."""

    def change(parts: Parts) -> None:
        parts.members[parts.index("log.txt")][0].name = new
        parts.seal()

    return change


def _name(old: str, new: str) -> Callable[[Parts], None]:
    return lambda parts: parts.rename(old, new)


def _manifest(**changes) -> Callable[[Parts], None]:
    return lambda parts: parts.manifest.update(changes)


def _listed(**changes) -> Callable[[Parts], None]:
    """Other words about the first file, in the manifest alone."""
    return lambda parts: parts.files[0].update(changes)


def _metrics(**changes) -> Callable[[Parts], None]:
    return lambda parts: parts.change_metrics(**changes)


def _content(name: str, content: bytes) -> Callable[[Parts], None]:
    return lambda parts: parts.replace(name, content)


def _twice(parts: Parts) -> None:
    parts.members.insert(1, parts.members[0])


def _twice_in_both(parts: Parts) -> None:
    _twice(parts)
    parts.files.insert(1, parts.files[0])


def _unlisted(parts: Parts) -> None:
    parts.files.pop()


def _missing(parts: Parts) -> None:
    parts.members.pop()


def _swapped(parts: Parts) -> None:
    parts.files.reverse()
    parts.members.reverse()


def _also_a_folder(parts: Parts) -> None:
    name = parts.members[0][0].name
    parts.members.append((tarfile.TarInfo(f"{name}/x"), b""))
    parts.seal()


def _without(name: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.members.pop(parts.index(name))
        parts.seal()

    return change


def _flipped(parts: Parts) -> None:
    member, content = parts.members[parts.index("head ü.safetensors")]
    parts.members[parts.index("head ü.safetensors")] = (member, bytes([content[0] ^ 1]) + content[1:])


RUN = "1a3_scaling/ladder-1m"  # how the paths of two of the runs begin
TAMPERED = {
    "symbolic link": (_kind(tarfile.SYMTYPE, "/etc/passwd"), "not a plain file"),
    "hard link": (_kind(tarfile.LNKTYPE, "/etc/passwd"), "not a plain file"),
    "device": (_kind(tarfile.CHRTYPE), "not a plain file"),
    "pipe": (_kind(tarfile.FIFOTYPE), "not a plain file"),
    "folder": (_kind(tarfile.DIRTYPE), "not a plain file"),
    "extended header": (_kind(tarfile.XHDTYPE), "not a plain file"),
    "long name": (_kind(tarfile.GNUTYPE_LONGNAME), "not a plain file"),
    "sparse": (_kind(tarfile.GNUTYPE_SPARSE), "not a plain file"),
    "absolute path": (_path("/tmp/evil"), "There is no experiment for '/tmp/evil'"),
    "path of another system": (_path(r"1a3_scaling\run\evil"), "There is no experiment for"),
    "climbing at once": (_path("../evil"), "There is no experiment for '../evil'"),
    "climbing to the experiment": (_path("1a3_scaling/../evil"), "no file of a run"),
    "climbing out of the run": (_path("1a3_scaling/run/../../../evil"), "would not mean the same everywhere"),
    "backslash": (_path("1a3_scaling/run/..\\evil"), "would not mean the same everywhere"),
    "drive": (_path("1a3_scaling/run/C:evil"), "would not mean the same everywhere"),
    "dot": (_path("1a3_scaling/run/./evil"), "would not mean the same everywhere"),
    "empty part": (_path("1a3_scaling/run//evil"), "would not mean the same everywhere"),
    "control characters": (_path("1a3_scaling/run/\x1b[2J"), "would not mean the same everywhere"),
    "no file": (_path("1a3_scaling/run"), "no file of a run"),
    "hidden run": (_path("1a3_scaling/.import/log.txt"), "no file of a run"),
    "hidden notes": (_path("1a3_scaling/.attempts/x.json"), "no file of a run"),
    "run of a name with blanks": (_name(RUN, "1a3_scaling/ladder 1m"), "no file of a run"),
    "unknown experiment": (_name("1a3_scaling/", "1a3_scalin/"), "did you mean '1a3_scaling'?"),
    "another experiment": (_name("1a3_scaling/", "2a_specdec/"), "it is a run of '1a3_scaling'"),
    "renamed with another hash": (
        lambda parts: parts.rename(parts.members[0][0].name.split("/")[1], "a_20260102_030405_abcdef"),
        "its name has the hash of another configuration",
    ),
    "file twice": (_twice, "not those of its manifest"),
    "file twice in both": (_twice_in_both, "not in order, or one is there twice"),
    "file not in the manifest": (_unlisted, "more files than its manifest lists"),
    "file missing": (_missing, "not those of its manifest"),
    "other order": (_swapped, "not in order"),
    "file that is a folder": (_also_a_folder, "one of its files is also a folder"),
    "content changed": (_flipped, "is not the file that was exported"),
    "other checksum": (_listed(sha256="0" * 64), "is not the file that was exported"),
    "checksum that is none": (_listed(sha256="0" * 63), "manifest is damaged at"),
    "checksum of another kind": (_listed(sha256=5), "manifest cannot be read"),
    "other size": (_listed(size=5), "not those of its manifest"),
    "negative size": (_listed(size=-1), "manifest is damaged at"),
    "size of another kind": (_listed(size=True), "manifest is damaged at"),
    "more than it should say": (_listed(mode=0o777), "manifest cannot be read"),
    "path of another kind": (_listed(path=5), "There is no experiment for '5'"),
    "newer archive": (_manifest(schema=2), "by a newer version of Recount: update this one"),
    "archive of no version": (_manifest(schema=None), "no version that Recount has had (None)"),
    "archive of version 0": (_manifest(schema=0), "no version that Recount has had (0)"),
    "archive of a true version": (_manifest(schema=True), "no version that Recount has had (True)"),
    "other kind": (_manifest(kind="pictures"), "its manifest is of another kind"),
    "files of another kind": (_manifest(files=[5]), "manifest cannot be read"),
    "incomplete": (_without("metrics.json"), "it has no metrics.json"),
    "without its environment": (_without("env.json"), "env.json is missing"),
    "without its configuration": (_without("config.yaml"), "config.yaml is missing"),
    "records that nobody vouches for": (_content("responses.jsonl", b"{}\n"), "responses.jsonl is not the file of"),
    "half a line": (_content("measurements.jsonl", b"#" * 31), "measurements.jsonl"),
    "finished in time to come": (_metrics(finished="9999-12-31T23:59:59-14:00"), "which is still to come"),
    "newer run": (_metrics(schema=2), "by a newer version of Recount"),
    "older run": (_metrics(schema=0), "by an older version of Recount"),
    "other hash": (_metrics(config_hash="0" * 64), "another configuration than the one its hash is of"),
    "other configuration": (_metrics(config={"seed": 9}), "another configuration"),
    "config.yaml differs": (_content("config.yaml", b"{seed: 9}"), "config.yaml holds other parameters"),
    "half a character": (_content("config.yaml", b"\xff"), "config.yaml cannot be read"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_tampered_with_is_refused_and_changes_nothing(packed, tmp_path, name):
    change, words = TAMPERED[name]
    parts = Parts(packed)
    change(parts)
    assert words in refused(parts.bytes(), tmp_path / "runs")


def test_what_was_taken_apart_and_put_together_again_is_accepted(packed, tmp_path):
    """So that each refusal above is of its change."""
    parts = Parts(packed)
    parts.seal()
    assert len(unpack(parts.bytes(), tmp_path / "runs")[0]) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"new_parameter": 1},
        {"prompts": None},  # left out
        {"seed": "abc"},
        {"prompts": [1, 2]},
        {"prompts": -1},
        {"arms": ["naive", "eab", "none"]},
        {"seed": "abc", "model": "/no/such/model"},
    ],
)
def test_a_run_of_other_parameters_comes_with_a_note_and_is_stale(packed, tmp_path, change, capsys):
    parts = Parts(packed)
    metrics = json.loads(parts.members[parts.index("metrics.json")][1])
    config = {k: v for k, v in (metrics["config"] | change).items() if v is not None}
    (old, new) = metrics["config_hash"][:6], stored_hash(config)[:6]
    metrics |= {"config": config, "config_hash": stored_hash(config)}
    parts.replace("metrics.json", json.dumps(metrics).encode())
    parts.replace("config.yaml", json.dumps(config).encode())  # JSON is YAML
    parts.rename(f"_{old}/", f"_{new}/")
    (name,) = {path.name for path in unpack(parts.bytes(), tmp_path / "runs")[0] if new in path.name}
    assert f"{name} was made by a version with other parameters, that of commit {'c' * 40}" in capsys.readouterr().err
    assert {run.dir.name: run.stale for run in runs.finished(EXPERIMENT, tmp_path / "runs")}[name]


@pytest.mark.parametrize(
    ("experiment", "name"),
    [(EXPERIMENT, "model"), ("2a_specdec", "model"), ("2a_specdec", "benchmark"), ("4b_wire", "gsm8k")],
)
def test_a_run_with_a_file_that_is_on_its_machine_alone_is_current(tmp_path, monkeypatch, capsys, experiment, name):
    monkeypatch.setattr(provenance, "environment", lambda *_: {"git": {"commit": None, "dirty": None}})
    monkeypatch.setattr(schema(experiment), "check_named", lambda _: None)
    config = resolve(experiment, {}).model_dump() | {name: "/data/of/another/machine", "runs_dir": str(tmp_path / "a")}
    config |= {"group": config["model"]} if "group" in config and name == "model" else {}  # a group by itself
    params = schema(experiment).model_construct(**config)
    monkeypatch.setattr(writing, "resolve", lambda *_: params)
    run = runs.open_run(experiment, {})
    run.finish({})
    unpack(pack(tmp_path / "a", str(run.dir)), tmp_path / "b")
    assert "Note" not in capsys.readouterr().err
    assert [found.stale for found in runs.finished(experiment, tmp_path / "b")] == [False]


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 200_000, b"1" * 10_000, b"{}"])
def test_a_manifest_that_cannot_be_read_is_one_sentence(packed, tmp_path, content):
    assert "manifest" in refused(Parts(packed).bytes(content), tmp_path / "runs")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "what came in is empty"),
        (b"\0" * 10_240, "its first file is no manifest"),
        (random.Random(1).randbytes(5000), "no tar at all"),
        (b"{}", "no tar at all"),
    ],
)
def test_what_is_no_archive_is_one_sentence(tmp_path, content, words):
    assert words in refused(content, tmp_path / "runs")


@pytest.mark.parametrize(("squeeze", "tool"), [(gzip.compress, "gunzip"), (lzma.compress, "unxz")])
def test_a_compressed_archive_says_how_to_unpack_it(packed, tmp_path, squeeze, tool):
    assert f"as in '{tool} < FILE |" in refused(squeeze(packed), tmp_path / "runs")


def test_another_tar_is_refused(here, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(packing.find(EXPERIMENT, here)[0] / "metrics.json", "metrics.json")
    assert "its first file is no manifest" in refused(out.getvalue(), tmp_path / "runs")


@pytest.mark.parametrize("rest", [b"GARBAGE", bytes(2**21) + b"x"])
def test_what_follows_an_archive_is_not_passed_over(here, packed, tmp_path, rest):
    for content in (packed + rest, packed + pack(here, EXPERIMENT), packed.rstrip(b"\0") + bytes(2048) + rest):
        assert "Something follows the end of the archive" in refused(content, tmp_path / "runs")
    assert len(unpack(packed + bytes(10_240), tmp_path / "runs")[0]) == 3  # any tar may be filled up


@pytest.mark.parametrize("part", [0.01, 0.2, 0.5, 0.8, 0.95])
def test_a_truncated_archive_is_refused(packed, tmp_path, part):
    content = packed.rstrip(b"\0")
    assert "cut short" in refused(content[: int(len(content) * part)], tmp_path / "runs")


@pytest.fixture(scope="module")
def tiny(here) -> bytes:
    """An archive of one run."""
    return pack(here, packing.find(EXPERIMENT, here)[0].name)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_never_add_another_run_nor_a_file_elsewhere(tiny, here, tmp_path, flips):
    content = bytearray(tiny)
    for place, mask in flips:
        content[place % len(content)] ^= mask
    place = tmp_path / "place"
    place.mkdir()
    try:
        unpack(bytes(content), place / "runs")
    except ArchiveError as error:
        assert "\n" not in str(error)
        assert list(place.iterdir()) == []
    else:
        folder = packing.find(EXPERIMENT, here)[0]
        assert [p.name for p in place.iterdir()] == ["runs"]
        assert [p.name for p in (place / "runs").iterdir()] == [EXPERIMENT]
        assert [p.name for p in (place / "runs" / EXPERIMENT).iterdir()] == [folder.name]
        assert tree(place / "runs" / EXPERIMENT / folder.name) == tree(folder)
    finally:
        shutil.rmtree(place)


KILLED = """
import os, sys
calls, call, after = [], sys.argv[1], int(sys.argv[2])
ordinary = getattr(os, call)
def dying(*args):
    calls.append(args)
    if len(calls) > after:
        os.kill(os.getpid(), 9)
    return ordinary(*args)
setattr(os, call, dying)
from lib.runs.unpacking import unpack
unpack(sys.stdin.buffer, sys.argv[3])
"""


@pytest.mark.parametrize(
    ("call", "after", "there"), [("rename", 0, 0), ("rename", 1, 1), ("rename", 2, 2), ("fsync", 8, 0)]
)
def test_a_killed_import_leaves_whole_runs_and_the_next_finishes(here, packed, tmp_path, call, after, there):
    root = tmp_path / "runs"
    command_line = [sys.executable, "-c", KILLED, call, str(after), str(root)]
    done = subprocess.run(command_line, input=packed, cwd=paths.ROOT, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert list(root.rglob(".import")), "it was killed too late for this test"
    seen = [run for e in (EXPERIMENT, "bench/sampling") for run in runs.finished(e, root)]
    assert len(seen) == there
    (root / "2a_specdec" / ".import" / "run").mkdir(parents=True)  # of yet another one
    new, present = unpack(packed, root)
    assert (len(new), len(present)) == (3 - there, there)
    (root / "2a_specdec").rmdir()  # empty: what was hidden in it is gone
    assert tree(root) == tree(here)


class TestCommand:
    def run(self, *arguments: str, monkeypatch, stdin: bytes | None = None, code: int = 2) -> str:
        """What the command says it could not do; "" where it could."""
        monkeypatch.setattr(sys, "argv", ["lib.runs", *arguments])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", said)
            try:
                command.main()
            except SystemExit as stopped:
                assert stopped.code in (0, code)
                return said.getvalue().rstrip("\n") if stopped.code else ""
        return ""

    def test_through_a_pipe(self, here, packed, tmp_path):
        module = [sys.executable, "-m", "lib.runs"]
        export = [*module, "export", EXPERIMENT, "bench/sampling", "--runs-dir", str(here)]
        sent = subprocess.run(export, cwd=paths.ROOT, capture_output=True, check=False)
        assert (sent.returncode, sent.stdout == packed) == (0, True)
        assert sent.stderr.decode().startswith("Exported 3 runs: ")
        assert sent.stderr.count(b"\n") == 1  # no bar: it was quick
        into = [*module, "import", "--runs-dir", str(tmp_path / "runs")]
        got = subprocess.run(into, cwd=paths.ROOT, input=sent.stdout, capture_output=True, check=False)
        assert (got.returncode, got.stderr) == (0, b"")
        assert got.stdout.decode() == f"Imported 3 runs into {tmp_path / 'runs'}; 0 already here.\n"
        assert tree(tmp_path / "runs") == tree(here)

    def test_files_are_named_too(self, here, packed, tmp_path, monkeypatch, capsys):
        out = tmp_path / "runs.tar"
        arguments = ["export", EXPERIMENT, "bench/sampling", "--runs-dir", str(here), "-o", str(out)]
        assert self.run(*arguments, monkeypatch=monkeypatch) == ""
        assert out.read_bytes() == packed
        assert self.run("import", str(out), "--runs-dir", str(tmp_path / "runs"), monkeypatch=monkeypatch) == ""
        assert "Imported 3 runs" in capsys.readouterr().out

    def test_a_refused_export_leaves_no_file(self, here, tmp_path, monkeypatch):
        shutil.copytree(packing.find(EXPERIMENT, here)[0], tmp_path / "mine")
        (tmp_path / "mine" / "env.json").unlink()
        said = self.run("export", str(tmp_path / "mine"), "-o", str(tmp_path / "a.tar"), monkeypatch=monkeypatch)
        assert said == "Error: Run mine is refused because env.json is missing."
        assert [p.name for p in tmp_path.iterdir()] == ["mine"]

    def test_bytes_do_not_go_to_a_terminal(self, here, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        said = self.run("export", EXPERIMENT, "--runs-dir", str(here), monkeypatch=monkeypatch)
        assert said.startswith("Error: An archive is not for a terminal: add '> runs.tar'")

    def test_nothing_is_awaited_from_a_terminal(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        assert self.run("import", monkeypatch=monkeypatch).startswith("Error: No archive comes in")

    @pytest.mark.parametrize("name", ["nowhere.tar", "."])
    def test_a_file_that_cannot_be_read_is_one_sentence(self, monkeypatch, tmp_path, name):
        monkeypatch.chdir(tmp_path)
        assert f"{name} cannot be read" in self.run("import", name, monkeypatch=monkeypatch)

    def test_a_place_that_cannot_be_written_is_one_sentence(self, packed, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        said = self.run("import", "--runs-dir", str(tmp_path / "file"), monkeypatch=monkeypatch, stdin=packed)
        assert said.startswith(
            f"Error: Results cannot be stored in {tmp_path / 'file'} (File exists): make it a folder"
        )

    @pytest.mark.parametrize(
        ("number", "code", "advice"), [(errno.ENOSPC, 1, "make room there"), (errno.EROFS, 2, "make it a folder")]
    )
    def test_a_full_disk_is_no_mistake(self, packed, tmp_path, monkeypatch, number, code, advice):
        def refuse(*_args: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        said = self.run("import", "--runs-dir", str(tmp_path), monkeypatch=monkeypatch, stdin=packed, code=code)
        assert f"({os.strerror(number)}): {advice}" in said

    @pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EISDIR, 2)])
    def test_an_archive_that_cannot_be_written_is_one_sentence(self, here, tmp_path, monkeypatch, number, code):
        def refuse(*_args: object) -> None:
            raise OSError(number, os.strerror(number), "x.tar.tmp")

        monkeypatch.setattr(os, "replace", refuse)
        arguments = ["export", EXPERIMENT, "--runs-dir", str(here), "-o", str(tmp_path / "a.tar")]
        said = self.run(*arguments, monkeypatch=monkeypatch, code=code)
        reason = os.strerror(number)
        assert said == f"Error: The archive cannot be written ({reason}): write it elsewhere with -o FILE."
        assert list(tmp_path.iterdir()) == []

    def test_a_single_run_is_counted_as_one(self, here, tmp_path, monkeypatch, capsys):
        out = str(tmp_path / "a.tar")
        self.run(
            "export",
            packing.find("bench/sampling", here)[0].name,
            "--runs-dir",
            str(here),
            "-o",
            out,
            monkeypatch=monkeypatch,
        )
        self.run("import", out, "--runs-dir", str(tmp_path / "runs"), monkeypatch=monkeypatch)
        assert capsys.readouterr().out.startswith("Imported 1 run into ")

    def test_nothing_typed_shows_the_help(self):
        done = subprocess.run(
            [sys.executable, "-m", "lib.runs"], cwd=paths.ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (2, "")
        lines = [line.split() for line in done.stdout.splitlines()]
        assert ["Usage:", "python", "-m", "lib.runs", "[OPTIONS]", "COMMAND", "[ARGS]..."] in lines
        assert {line[0] for line in lines if line} >= {"export", "import"}

    def test_help_teaches_by_example(self, monkeypatch, capsys):
        for name, line in (
            ("export", "lib.runs export 1a3_scaling > runs.tar\n"),
            ("import", "lib.runs import < runs.tar\n"),
        ):
            self.run(name, "--help", monkeypatch=monkeypatch)
            assert line in capsys.readouterr().out
