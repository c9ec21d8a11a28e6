"""Nothing that is read can run code, leave its folder, or carry a secret into the results."""

import ast
import json
import pickle
import subprocess
import sys
import urllib.error
import urllib.request

import bridge_toys
import checkout
import lab_server
import pytest
import torch
from fuzzing import make_run

from lib import paths, preset_files, presets, runs
from lib.data import benchmark, gsm8k
from lib.models import hub
from lib.params import EXPERIMENTS, ParameterError, resolve

MODULES = sorted((paths.ROOT / "lib").rglob("*.py"))
MARKER = "marker-4f1e-of-a-secret"
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "WANDB_API_KEY")
ESCAPES = ("../../out", "/tmp/out", "..", "a/../../b", "..\\..\\out", "~/out")
# A published head that is a pickle is read for conversion, without code, by the one call that can.
READS_PICKLE = ("eagle_convert.py", "torch.load", "weights_only")


def calls(path):
    """Every call in a module: its dotted name, and its keywords with their values as text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class TestNoCodeIsRead:
    @pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(paths.ROOT)))
    def test_in_the_source(self, path):
        for name, keywords in calls(path):
            assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), name
            assert keywords.get("shell") != "True", f"{name} starts a shell"
            last = name.rpartition(".")[2]
            if last in ("load", "load_all", "full_load", "unsafe_load") and "yaml" in name:
                pytest.fail(f"{name} may build any object")
            if name == "torch.load":
                assert (path.name, name, "weights_only") == READS_PICKLE and keywords["weights_only"] == "True"
        allowed = {"pickle"} if path.name == READS_PICKLE[0] else set()  # for the name of an error
        roots = {name.split(".")[0] for name in imported(path)}
        assert roots & {"pickle", "marshal", "dill", "joblib", "shelve", "cloudpickle"} <= allowed
        assert not any(name.startswith("pickle.load") or "Unpickler" in name for name, _ in calls(path))

    def test_by_any_loader(self, tmp_path, monkeypatch, micro_path):
        with bridge_toys.world(tmp_path / "toys"):
            run = make_run(tmp_path / "runs", rows=2)
            (tmp_path / "requests.jsonl").write_text('{"prompt": "a"}\n')
            (tmp_path / "gsm8k.jsonl").write_text('{"question": "q", "answer": "#### 1"}\n')

            def poisoned(*_args, **_options):
                raise AssertionError("something was unpickled")

            class Poisoned(pickle._Unpickler):  # modules imported on the way may derive from it, but not use it
                __init__ = poisoned

            for name in ("load", "loads"):
                monkeypatch.setattr(pickle, name, poisoned)
            for name in ("Unpickler", "_Unpickler"):
                monkeypatch.setattr(pickle, name, Poisoned)
            monkeypatch.setattr(torch, "load", poisoned)
            assert hub.load(str(micro_path), device="cpu").parameters
            assert benchmark.load(tmp_path / "requests.jsonl") and gsm8k.load(tmp_path / "gsm8k.jsonl")
            assert len(runs.load("1a3_scaling", run.parent.parent)) == 2
            assert all(presets.load_yaml(path.stem) for path in paths.PARAMS.glob("*_*.yaml"))

    def test_a_models_own_code_runs_only_where_it_is_asked_for(self, monkeypatch, micro_path):
        for experiment, params in EXPERIMENTS.items():
            field = params.model_fields.get("trust_remote_code")
            assert field is None or field.default is False, experiment
        seen = []

        def noted(folder, **options):
            seen.append(options["trust_remote_code"])
            raise OSError("far enough")

        monkeypatch.setattr(hub.AutoConfig, "from_pretrained", noted)
        for trusted in (False, True):
            with pytest.raises(hub.ModelError):
                hub.load(str(micro_path), device="cpu", trust_remote_code=trusted)
        with pytest.raises(hub.ModelError):
            hub.load(str(micro_path), device="cpu")
        assert seen == [False, True, False]

    def test_a_tag_of_yaml_makes_nothing(self, tmp_path):
        made = tmp_path / "made"
        (tmp_path / "x.yaml").write_text(f"presets: !!python/object/apply:pathlib.Path.touch [{made}]")
        with pytest.raises(ParameterError, match="could not determine a constructor"):
            preset_files.read(tmp_path / "x.yaml")
        assert not made.exists()


class TestNothingLeavesItsFolder:
    @pytest.mark.parametrize("label", ESCAPES)
    def test_by_a_label_a_preset_or_a_model(self, tmp_path, label):
        params = resolve("1a3_scaling", {"label": label, "preset": label, "runs_dir": str(tmp_path / "runs")})
        folder = runs.prepare("1a3_scaling", params)
        assert folder.parent == tmp_path / "runs" / "1a3_scaling"
        assert {path.name for path in tmp_path.iterdir()} == {"runs"}

    @pytest.mark.parametrize("name", ESCAPES)
    def test_by_the_name_of_an_experiment_or_a_preset(self, name):
        with pytest.raises(ParameterError, match="There is no experiment"):
            presets.cells(name, "quick")
        with pytest.raises(ParameterError, match="has no preset"):
            presets.cells("1a3_scaling", name)

    @pytest.mark.parametrize("name", ESCAPES)
    def test_by_the_name_of_a_bridge(self, tmp_path, name):
        with pytest.raises(ParameterError):
            resolve("4b_wire", {"bridge": name, "runs_dir": str(tmp_path)}).check_named()

    def test_by_the_id_of_a_request(self, tmp_path):
        rows = [{"prompt": "a", "id": name, "category": name} for name in ESCAPES]
        (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert [request.id for request in benchmark.load(tmp_path / "requests.jsonl")] == list(ESCAPES)
        run = make_run(tmp_path / "runs", rows=0)
        assert {path.name for path in run.parent.iterdir()} == {run.name}


def test_no_secret_gets_into_the_results(tmp_path):
    root = checkout.make(tmp_path / "repository")
    environment = checkout.environment(root, **dict.fromkeys(SECRETS, MARKER))
    command = [sys.executable, "-m", "lib.sweep", "1a3_scaling", "--preset", "alone", "--only", "model=ladder-60k"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = [path for path in (root / "runs").rglob("*") if path.is_file()]
    assert {"env.json", "executed.ipynb", "log.txt", "config.yaml", "metrics.json"} <= {path.name for path in files}
    assert not [path for path in files if MARKER.encode() in path.read_bytes()]
    assert MARKER not in done.stdout + done.stderr


def answer(url: str) -> int:
    """The HTTP status of a request."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_jupyterlab_asks_for_its_token(tmp_path):
    with lab_server.started(paths.ROOT, tmp_path) as lab:
        assert len(lab.token) >= 32
        assert answer(f"{lab.address}/api/contents") == 403
        assert answer(f"{lab.address}/api/contents?token=wrong") == 403
        assert answer(f"{lab.address}/api/contents?token={lab.token}") == 200
