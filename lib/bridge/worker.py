"""Trains one bridge of a job and writes it into the cache, in this process or in several at once.

Several processes are started by torchrun and find each other through accelerate. Each loads the two models onto its
own device and takes its share of every batch; they look at the validation items together and stop together, because all
of them hear the same accuracy. The first one writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from lib import console
from lib.bridge import evaluation, pair, processes, stressors
from lib.bridge.tasks import TASKS, Item
from lib.data.rows import DataError
from lib.metrics.cost import PeakMemory
from lib.metrics.messages import early_stop
from lib.models import bridge, bridge_losses, bridge_training, cache, devices
from lib.models.bridge import Bridge, Shape
from lib.models.bridge_losses import Recipe
from lib.models.hub import LoadedModel
from lib.models.memory import explain_oom
from lib.models.registry import ModelError, is_trained_here
from lib.params import ParameterError, resolve
from lib.params.bridge import Bridge as Params

KIND = "bridges"  # folder of the cache
TUNED_SHARE = 0.5  # of a bridge's steps, for a prompt tuned without a source: it has far less to learn
DECAYED_SHARE = 0.5  # of the steps, for going on from a good bridge
PATIENCE = 5  # of the early stop that is noted where none is asked for
UNRELATED = {"label", "preset", "run_dir", "runs_dir", "seed", "test", "hygiene", "threads"}  # to the weights


@dataclass(frozen=True)
class Job:
    """What is trained: parameters with one seed, and what the target sees (`message`, or `text` for a tuned prompt)."""

    params: Params
    see: str = "message"

    @classmethod
    def of(cls, params: Params) -> Job:
        return cls(params.model_copy(update={"seed": params.seed[:1]}))

    def of_seed(self, seed: int) -> Job:
        """The same with another seed."""
        return replace(self, params=self.params.model_copy(update={"seed": [seed]}))

    def tuned(self, arm: str) -> Job:
        """The soft prompt without a source that goes beside this bridge: `constant` or `prefix_text`."""
        plain = {"kind": "constant", "stressor": "", "info_nce": 0.0, "distill": 0.0, "reconstruct": 0.0, "stop": False}
        plain["noise_bits"] = 0
        fewer = {"steps": max(1, round(TUNED_SHARE * self.params.steps)), "seed": [0], "patience": PATIENCE}
        fewer["warmup"] = min(self.params.warmup, fewer["steps"] // 4)
        fewer["evaluations"] = min(4, fewer["steps"])
        usual = ("bottleneck", "depth", "heads", "ffn", "clip")  # so that bridges of one message share their prompts
        like = {name: Params.model_fields[name].get_default() for name in usual}
        params = self.params.model_copy(update=plain | fewer | like)
        return Job(params, "text" if arm == "prefix_text" else "message")

    def good(self) -> Job:
        """The training without the stressor, with all fixes, that `decay` starts from."""
        fixed = {"stressor": "", "info_nce": 0.05, "distill": 0.0, "clip": 1.0, "patience": PATIENCE}
        return replace(self, params=self.params.model_copy(update=fixed))

    def pair(self) -> pair.Pair:
        """Both models, loaded onto this process's device."""
        params = self.params
        state = PartialState()
        device = str(state.device) if state.num_processes > 1 else params.device
        options = {"dtype": self._dtype(device), "device": device, "trust_remote_code": params.trust_remote_code}
        return pair.load(params.source, params.target, params.source_layer, **options)

    def _dtype(self, device: str) -> str:
        """bfloat16 for hub models on a GPU, where "auto" is float16 elsewhere: training runs in bfloat16."""
        here = is_trained_here(self.params.source) and is_trained_here(self.params.target)
        on_gpu = devices.choose(device).type == "cuda"
        return "bfloat16" if self.params.dtype == "auto" and on_gpu and not here else self.params.dtype

    def recipe(self) -> Recipe:
        """How the bridge is trained."""
        params = self.params
        steps = params.steps if params.stressor != "decay" else max(1, round(DECAYED_SHARE * params.steps))
        made = Recipe(
            steps=steps,
            batch_size=params.batch_size,
            learning_rate=params.learning_rate,
            warmup=params.warmup,
            optimizer=params.optimizer,
            clip=params.clip,
            info_nce=params.info_nce,
            info_nce_from=params.info_nce_from,
            distill=params.distill,
            reconstruct=params.reconstruct,
            noise_bits=params.noise_bits,
            evaluations=min(params.evaluations, steps),
            stop=params.stop,
            seed=params.seed[0],
        )
        return stressors.recipe(params.stressor, made)

    def facts(self, models: pair.Pair) -> dict[str, Any]:
        """Everything that the weights depend on."""
        params = {k: v for k, v in self.params.model_dump(mode="json").items() if k not in UNRELATED}
        params["patience"] = params["patience"] or PATIENCE
        task = TASKS[self.params.task]
        weights = [pair.fingerprint(models.source), pair.fingerprint(models.target), models.layer]
        items = [pair.digest(models, task, asked) for asked in self.items()]
        about = {"code": cache.source_hash(pair.CODE), "machine": pair.machine(models), "of": weights, "items": items}
        return {"params": params, "seed": self.params.seed, "see": self.see} | about

    def items(self) -> tuple[list[Item], list[Item]]:
        """What is trained on, and what is judged by in between."""
        params, load = self.params, TASKS[self.params.task].load
        return load("train", params.train, params.data), load("validation", params.validation, params.data)


def folder(models: pair.Pair, job: Job) -> Path:
    """The cache's folder with the trained bridge of a job; trained now where it is not there."""
    params = job.params
    name = "-".join([params.task, params.kind, f"{params.soft_tokens}x{params.wire_dim}", str(params.seed[0])])
    return cache.get(KIND, name, cache.key_of(job.facts(models)), partial(_build, models, job))


def untrained(models: pair.Pair, job: Job) -> Bridge:
    """The bridge of a job with its initial weights, on the target's device."""
    params = job.params
    shape = Shape(
        params.kind,
        models.source_dim,
        models.target_dim,
        params.soft_tokens,
        params.wire_dim,
        params.bottleneck,
        params.depth,
        params.heads,
        params.ffn,
    )
    made = bridge.build(stressors.shape(params.stressor, shape), models.reader.rms, params.seed[0])
    return stressors.bridge(params.stressor, made).to(models.target.device)


def _build(models: pair.Pair, job: Job, folder: Path) -> None:
    everywhere = models.target.device.type == "cuda" and job.params.device in ("auto", "cuda")
    count = job.params.processes or (torch.cuda.device_count() if everywhere else 1)
    if job.params.stressor == "decay":
        _good(models, job)  # now, because a process of several cannot start several
    if count > 1:
        _launch(models, job, folder, count)
    else:
        train(models, job, folder)


def _launch(models: pair.Pair, job: Job, folder: Path, count: int) -> None:
    """Train in several processes; RuntimeError, one sentence, where one of them fails."""
    if job.params.batch_size % count:
        raise ParameterError(
            f"A batch of {job.params.batch_size} cannot be shared by {count} processes; make it a multiple of them."
        )
    given = {"params": job.params.model_dump(mode="json"), "see": job.see}
    with set_aside(models.source, models.target):
        processes.run("lib.bridge.worker", [json.dumps(given), str(folder)], count, job.params.threads)


@contextmanager
def set_aside(*models: LoadedModel) -> Iterator[None]:
    """These models in main memory inside, so that something else has their GPU to itself."""
    places = [(lm.model, lm.device) for lm in models]
    for model, _ in places:
        model.to("cpu")
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        for model, device in places:
            model.to(device)


def train(models: pair.Pair, job: Job, folder: Path) -> None:
    """Train, and write both sets of weights and the record into the empty `folder` (the first process writes)."""
    params, state = job.params, PartialState()
    examples, judged = (pair.encode(models, TASKS[params.task], items) for items in job.items())
    recipe, made = job.recipe(), untrained(models, job)
    if params.stressor == "decay":
        made.load_state_dict(load_file(_good(models, job) / "best.safetensors"))
    curve: list[dict[str, Any]] = []
    memory = PeakMemory(models.target.device)
    memory.start()
    see = bridge_losses.text if job.see == "text" or params.stressor == "leak" else bridge_losses.message
    name = params.label or f"{params.task} {params.kind} {params.soft_tokens}x{params.wire_dim}"
    with tqdm(
        total=recipe.steps,
        desc=f"{name}, seed {params.seed[0]}",
        unit="step",
        file=sys.stderr,
        disable=not state.is_main_process,
        mininterval=0.5,
    ) as bar:

        def log(row: dict[str, Any]) -> None:
            curve.append(row)
            bar.set_postfix(loss=f"{row['loss'] or 0:.3f}", right=f"{row['val_accuracy']:.0%}", refresh=False)

        with explain_oom("batch_size"):
            found = bridge_training.train(
                made,
                models.reader,
                stressors.examples(params.stressor, examples),
                recipe,
                see,
                partial(_judge, models, judged, job),
                partial(early_stop, patience=params.patience or PATIENCE),
                log,
                bar.update,
            )
    if not state.is_main_process:
        return
    for checkpoint in ("final", "best"):
        weights = getattr(found, checkpoint)
        save_file({k: v.cpu().contiguous() for k, v in weights.items()}, folder / f"{checkpoint}.safetensors")
    record = {"curve": curve, "best_step": found.best_step, "stop_step": found.stop_step, "train_s": found.seconds}
    record["peak_memory_bytes"] = memory.stop()
    (folder / "training.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def _good(models: pair.Pair, job: Job) -> Path:
    return folder(models, job.good())


def _judge(models: pair.Pair, encoded: pair.Encoded, job: Job, made: Bridge) -> dict[str, float]:
    """The first process judges and tells the others, so that all of them stop at the same evaluation."""
    state = PartialState()
    found = [None]
    if state.is_main_process:
        judge = evaluation.judge if job.see == "message" else evaluation.judge_text
        found = [judge(models, encoded, made)]
    if state.num_processes > 1:
        found = broadcast_object_list(found)
    return found[0]


def main() -> None:
    """One of several processes: `python -m lib.bridge.worker JOB FOLDER`."""
    processes.end_with_launcher()
    given = json.loads(sys.argv[1])
    asked = Job(resolve("4a_bridge", given["params"]), given["see"])
    PartialState(cpu=devices.choose(asked.params.device).type == "cpu")  # on CPUs they only meet when told so first
    train(asked.pair(), asked, Path(sys.argv[2]))


if __name__ == "__main__":
    console.run(main, ModelError, DataError)
