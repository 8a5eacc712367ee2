"""Half an hour on a borrowed GPU: is it right there, how fast is it, and real trainings. For the GPU's first user.

    python benchmarks/gpu.py --output FOLDER [--seconds 400]      again and again, until it exits with 0

Each call works for so many seconds at most, keeps every result at once, and exits with 75 while there is more to do;
the same command then goes on, in the middle of a training too. FOLDER ends up with four files: machine.json,
correctness.csv (what was compared, by how much it differs, how much it may), speed.csv (images a second, memory,
seconds to compile), trainings.csv. What failed has its error in its row and stops nothing else. Of the project's
needs it wants torch, timm, torchvision, pandas and scikit-learn; without pytorch-grad-cam that one check fails and says
so. `--tables` and `--networks` do a part of it. `--quick` rehearses all of it at toy size, on a CPU too.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import plain
import torch
from torch.nn import functional

from chromolib import architectures, device, files, folds, metrics, provenance, similarity, slots, training

PAPERS = architectures.NAMES[:11]
CHECKED = ("resnet50", "mobilenetv3_large", "convnext_tiny", "vit_small")  # one of each kind
TRAINED = ("mobilenetv3_large", "resnet34", "convnext_tiny")
TABLES = ("correctness", "speed", "trainings")
LAYOUTS = {"channels_last": True, "contiguous": False}
MORE = 75  # exit status: there is more to do (os.EX_TEMPFAIL)
CPU = torch.device("cpu")


class OutOfTime(Exception):
    """The slice is over; what was saved stays."""


class Bench:
    """Sizes of everything, the folder of the results, and the time that is left."""

    def __init__(self, words):
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--output", type=Path, required=True, help="folder of the results")
        parser.add_argument("--seconds", type=float, default=400, help="of this slice; a job begun in time is finished")
        parser.add_argument("--quick", action="store_true", help="toy size: shows that it runs, not how fast")
        parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES, help="which of them")
        parser.add_argument("--networks", nargs="+", choices=tuple(architectures.TABLE), help="of these networks")
        given = parser.parse_args(words)
        self.folder, self.quick, self.place = given.output, given.quick, device.choose()
        self.tables, self.networks = given.tables, given.networks
        self.end = time.monotonic() + given.seconds
        self.size, self.batch = (32, 4) if self.quick else (256, 32)
        self.least = 0.0 if self.quick else 3.0  # seconds that are measured
        epochs = (1, 1) if self.quick else (60, 20)  # of the paper profile
        self.recipe = replace(plain.RECIPE, batch_size=self.batch, adam_epochs=epochs[0], sgd_epochs=epochs[1])

    def chosen(self, usual):
        """The networks that were asked for; else `usual`, of which the rehearsal takes one."""
        return self.networks or (TRAINED[:1] if self.quick else usual)

    def noise(self, n):
        """Images and labels on the device, the same each time."""
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(n, self.size, self.size), dtype=np.uint8)
        return torch.from_numpy(images).to(self.place), (torch.arange(n) % 24).to(self.place)

    def model(self, name, place=None):
        """A network with the same random weights each time, prepared."""
        torch.manual_seed(0)
        place = place or self.place
        model = architectures.create(name, image_size=self.size)
        return device.prepare(model, place, architectures.memory_format(name, place))

    def results(self, table):
        file = self.folder / f"{table}.csv"
        return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["key"])

    def keep(self, table, row):
        content = pd.concat([self.results(table), pd.DataFrame([row])], ignore_index=True)
        with files.replacing(self.folder / f"{table}.csv") as temporary:
            content.to_csv(temporary, index=False)


# ---- Is it right there? Each check returns by how much two results differ, and how much they may. ----


def difference(one, other):
    """The largest difference, as a share of the largest value: floats, arrays or tensors of one shape."""
    one, other = (torch.as_tensor(part).detach().double().cpu() for part in (one, other))
    return ((one - other).abs().max() / other.abs().max().clamp(min=1e-12)).item()


@cache
def logits_and_gradient(bench, name, ours=True, compiled=False, precision="fp32", dtype=torch.float32):
    """Of one batch in training: the logits, and the gradient of the network's first weights."""
    model, (images, labels) = bench.model(name), bench.noise(bench.batch)
    place = next(model.parameters()).device
    if not ours:  # as it comes from timm: what `prepare` does to layers is under test
        fresh = architectures.create(name, image_size=bench.size).to(dtype)
        fresh.load_state_dict(model.state_dict())
        model = fresh.to(place)
    if compiled:
        device.compile_once(model, place)
    batch = architectures.normalise(images.to(place), name).to(dtype)
    with device.autocast(place, precision == "auto"):
        logits = model.train()(batch)
    functional.cross_entropy(logits.to(dtype), labels.to(place)).backward()
    return logits.detach(), next(model.parameters()).grad


def against_float64(bench, name, which, **options):
    """One engine against timm's network in float64 on the same device; which: 0 the logits, 1 the gradient."""
    exact = logits_and_gradient(bench, name, ours=False, dtype=torch.float64)
    return difference(logits_and_gradient(bench, name, **options)[which], exact[which])


def against_bf16(bench, name, which, **options):
    """One engine's distance from float64 as a multiple of that of timm's network in bf16, of 0.001 where that is less.

    How far 8 bits lead away depends on the network and the batch: a share for all would be a guess.
    """
    usual = against_float64(bench, name, which, ours=False, precision="auto")
    return against_float64(bench, name, which, precision="auto", **options) / max(usual, 1e-3)


def against_cpu(bench, work):
    """What a function of ours returns on the GPU, against the same on the CPU."""
    found = work()
    with mock.patch.object(device, "choose", lambda: CPU):
        return difference(found, work())


def embeddings(bench, name):
    torch.manual_seed(0)
    return similarity.embed(bench.noise(bench.batch)[0].cpu().numpy(), name, weights=None)


def grad_cam(bench, name):
    from chromolib import gradcam  # pytorch-grad-cam may be missing

    images, labels = (part.cpu().numpy() for part in bench.noise(bench.batch))
    torch.manual_seed(0)
    return gradcam.maps(architectures.create(name, image_size=bench.size).eval(), name, images, labels)


def step_in_parts(bench, name):
    """The weights after one step of the whole batch and in two parts; the network is to be without batch norm."""
    weights = []
    for parts in (1, 2):
        model, (images, labels) = bench.model(name).train(), bench.noise(bench.batch)
        device.compile_once(model, bench.place)
        optimiser = training.make_optimiser(model, bench.recipe, bench.recipe.adam_epochs + 1)  # SGD
        training.train_step(model, optimiser, architectures.normalise(images, name), labels, "fp32", parts)
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    return difference(*weights)


def fit(bench, name, recipe, n, **options):
    """`training.fit` on n images of noise, in a network of its own: Fit, and the last weights."""
    model, (images, labels) = bench.model(name), bench.noise(n)
    if recipe.compiled:
        device.compile_once(model, bench.place)
    examples = training.Examples(images, labels, np.arange(n), np.arange(min(n, 8)))
    found = training.fit(model, name, examples, recipe, **options)
    return found, torch.cat([value.flatten().double() for value in model.state_dict().values()])


def resumed(bench, name):
    """Weights of a training that was stopped at its first epoch and went on, and of one that was not."""
    recipe = replace(bench.recipe, adam_epochs=2, sgd_epochs=1, reproducible=True)

    def stop(_):
        raise OutOfTime

    with tempfile.TemporaryDirectory() as folder, saving_each(0):
        state = Path(folder) / "state.pt"
        try:
            fit(bench, name, recipe, 3 * bench.batch, state=state, report=stop)
        except OutOfTime:
            _, on = fit(bench, name, recipe, 3 * bench.batch, state=state)
    return difference(on, fit(bench, name, recipe, 3 * bench.batch)[1])


def saving_each(seconds):
    """A context in which a training's state is written as often."""
    return mock.patch.object(training, "STATE_SECONDS", seconds)


def out_of_memory(bench, name):
    """0 where a training that is out of memory goes on in parts. A GPU's memory runs out; a CPU's is said to."""
    recipe = replace(bench.recipe, adam_epochs=1, sgd_epochs=0, compiled=True)
    with scarce(bench, name):
        return float(fit(bench, name, recipe, 2 * bench.batch)[0].parts < 2)


@contextmanager
def scarce(bench, name):
    """A context with memory for about a third of what a batch of this network takes."""
    if bench.place.type == "cuda":
        clean()
        torch.cuda.reset_peak_memory_stats()
        fit(bench, name, replace(bench.recipe, adam_epochs=1, sgd_epochs=0), bench.batch)
        share = torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory / 3
        clean()
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    step = training.train_step

    def limited(model, optimiser, images, *rest):
        if len(images) // rest[2] > bench.batch // 2:
            raise torch.OutOfMemoryError("simulated")
        return step(model, optimiser, images, *rest)

    with mock.patch.object(training, "train_step", limited):
        yield


def neighbour(bench):
    """0 where a neighbour's memory is told from one's own, and none is imagined. A CPU's memory is nobody's."""
    wrong = bool(device.neighbours(bench.place))
    if bench.place.type == "cuda":
        work = "import torch; held = torch.zeros(int(torch.cuda.mem_get_info()[0] * 0.3) // 4, device='cuda')"
        command = [sys.executable, "-c", f"{work}; print(len(held), flush=True); input()"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            wrong |= not device.neighbours(bench.place)
            process.communicate("done\n")
    return float(wrong)


def names_of_gpus(bench):
    """0 where the slots know as many GPUs as PyTorch does, or MIG instances, of which PyTorch sees one."""
    seen = torch.cuda.device_count() if bench.place.type == "cuda" else 0
    return float(len(slots.devices()) < seen)


def checks(bench):
    """(key, limit, function) of each check. Limits allow for the order of sums in float32, and of roundings in bf16."""
    yield "a neighbour's memory", 0.0, partial(neighbour, bench)
    yield "names of the GPUs", 0.0, partial(names_of_gpus, bench)
    for name in bench.chosen(CHECKED):
        for engine, options in {"eager": {}, "compiled": {"compiled": True}}.items():
            for which, (what, limit) in enumerate({"logits": 1e-3, "gradient": 5e-2}.items()):
                yield f"{name}: {what}, {engine} fp32", limit, partial(against_float64, bench, name, which, **options)
                yield f"{name}: {what}, {engine} bf16", 2.0, partial(against_bf16, bench, name, which, **options)
        yield f"{name}: embeddings, GPU and CPU", 1e-3, partial(against_cpu, bench, partial(embeddings, bench, name))
        yield f"{name}: Grad-CAM, GPU and CPU", 5e-2, partial(against_cpu, bench, partial(grad_cam, bench, name))
        yield f"{name}: resumed", 0.0, partial(resumed, bench, name)
        yield f"{name}: out of memory", 0.0, partial(out_of_memory, bench, name)
    yield "vit_small: a step in parts", 1e-4, partial(step_in_parts, bench, "vit_small")


def check(limit, work):
    value = work()
    return {"value": value, "limit": limit, "right": value <= limit}


# ---- How fast is it? ----


def measured(bench, work, steps):
    """Images a second of a function that makes so many steps, seconds of its first call, and peak memory: dict."""
    if bench.place.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    work(steps)
    first, started = time.perf_counter() - started, time.perf_counter()
    work(steps)
    again = time.perf_counter() - started
    steps = 1 + int(bench.least / again * steps)
    started = time.perf_counter()
    work(steps)
    rate = steps * bench.batch / (time.perf_counter() - started)
    memory = torch.cuda.max_memory_reserved() / 2**30 if bench.place.type == "cuda" else None
    return {"images_per_second": rate, "starting": max(0.0, first - again), "memory_gib": memory, "batch": bench.batch}


def engine(bench, name, compiled, layout):
    """`training.fit`, with the network's layout of memory or the other."""
    row = replace(architectures.row(name), channels_last=LAYOUTS[layout])
    with mock.patch.dict(architectures.TABLE, {name: row}):
        model, (images, labels) = bench.model(name), bench.noise(bench.batch)
        if compiled:
            device.compile_once(model, bench.place)
        recipe, every = replace(bench.recipe, adam_epochs=1, sgd_epochs=0), np.arange(bench.batch)
        fits = []

        def work(steps):
            timed = replace(recipe, steps_per_epoch=steps)
            fits.append(training.fit(model, name, training.Examples(images, labels, every, every[:1]), timed))

        found = measured(bench, work, 4)
    return found | {"compiled": fits[-1].compiled, "parts": fits[-1].parts}


def bare(bench, name):
    """The bare step: no augmentation, no loading, no validation."""
    model, (images, labels) = bench.model(name).train(), bench.noise(bench.batch)
    batch, optimiser = architectures.normalise(images, name), training.make_optimiser(model, bench.recipe, 1)

    def work(steps):
        for _ in range(steps):
            loss = training.train_step(model, optimiser, batch, labels)
        loss.item()

    return measured(bench, work, 4)


def loop(bench, name, tuned):
    """The tutorial's loop over PNG files, plain or tuned."""
    torch.manual_seed(0)
    model = architectures.create(name, image_size=bench.size).to(bench.place)
    if tuned:
        model = model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), fused=tuned or None)
    images, labels = (part.cpu().numpy() for part in bench.noise((2 if bench.quick else 32) * bench.batch))
    ours = torch.backends.cudnn.conv.fp32_precision
    with tempfile.TemporaryDirectory() as folder:
        plain.write_images(Path(folder), images, labels)
        batches = plain.loader(folder, name, bench.size, bench.batch)
        plain.restore_defaults()
        try:
            plain.train_epoch(model, batches, optimiser, tuned=tuned)
            started = time.perf_counter()
            plain.train_epoch(model, batches, optimiser, tuned=tuned)
        finally:
            torch.backends.cudnn.conv.fp32_precision = ours
        return {"images_per_second": len(images) / (time.perf_counter() - started), "batch": bench.batch}


def speeds(bench):
    """(key, function): what is short and tells most first, so that little is lost when the time is over."""
    names = bench.chosen(PAPERS)
    own = {name: "channels_last" if architectures.row(name).channels_last else "contiguous" for name in names}
    other = {name: next(layout for layout in LAYOUTS if layout != own[name]) for name in names}
    for name in names:
        yield f"{name}, eager, {own[name]}", partial(engine, bench, name, False, own[name])
        yield f"{name}, bare step", partial(bare, bench, name)
    for name in names:
        for kind in ("plain", "tuned"):
            yield f"{name}, {kind} loop", partial(loop, bench, name, kind == "tuned")
    for name in names:
        yield f"{name}, compiled, {own[name]}", partial(engine, bench, name, True, own[name])
    for compiled in (False, True):
        for name in names:
            words = "compiled" if compiled else "eager"
            yield f"{name}, {words}, {other[name]}", partial(engine, bench, name, compiled, other[name])


# ---- Real trainings, of the paper's length. ----


def real_images(bench):
    """BioImLab where it is at hand, else stripes of 24 widths under noise: images and labels, arrays; the name."""
    if not bench.quick:
        try:
            from chromolib import datasets

            data = datasets.load("bioimlab", size=bench.size)
            return np.array(data.images), np.array(data.labels), data.name
        except Exception as error:  # its packages may be missing too
            print(f"stripes instead of BioImLab: {error}")
    rng, labels = np.random.default_rng(0), np.arange(72 if bench.quick else 4800) % 24
    wave = 80 * np.sin(np.arange(bench.size) * (1 + labels[:, None]) * np.pi / bench.size)  # (n, size)
    images = 128 + wave[:, :, None] + rng.normal(0, 40, (len(labels), bench.size, bench.size)).astype(np.float32)
    return np.clip(images, 0, 255).astype(np.uint8), labels, "stripes"


def train(bench, name, compiled):
    """Fold 0 from random weights; the state is kept, so that the next slice goes on."""
    images, labels, data = real_images(bench)
    parts = folds.split(labels, n_folds=3 if bench.quick else 5)[0]
    model = bench.model(name)
    if compiled:
        device.compile_once(model, bench.place)
    state = bench.folder / "state" / f"{name}.pt"
    state.parent.mkdir(exist_ok=True)

    def report(row):
        print(
            f"{name}, epoch {row['epoch']}: accuracy {row['validation_accuracy']:.3f}, {row['seconds']:.1f} s",
            flush=True,
        )
        if time.monotonic() > bench.end:
            raise OutOfTime

    tensors = (torch.from_numpy(part).to(bench.place) for part in (images, labels))
    with saving_each(0 if bench.quick else 10):  # the end of a slice costs no more
        found = training.fit(model, name, training.Examples(*tensors, *parts), bench.recipe, state=state, report=report)
    model.load_state_dict(found.best)
    logits = training.predict(model, name, torch.from_numpy(images[parts[1]]).to(bench.place)).cpu().numpy()
    training.forget(state)
    history = pd.DataFrame(found.history)
    facts = {"data": data, "n_train": len(parts[0]), "epochs": len(history), "seconds": history["seconds"].sum()}
    facts |= {"images_per_second": history["images_per_second"].median(), "best_epoch": found.best_epoch}
    return facts | {"compiled": found.compiled, "parts": found.parts} | metrics.scores(labels[parts[1]], logits)


# ---- The slices. ----


def jobs(bench):
    """(table, key, function that returns a row) of all there is to do, in order."""
    for key, limit, work in checks(bench):
        yield "correctness", key, partial(check, limit, work)
    for key, work in speeds(bench):
        yield "speed", key, work
    for name in bench.chosen(TRAINED):
        yield "trainings", name, partial(train, bench, name, True)


def clean():
    """Give back what the last job held."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()


def describe(bench):
    seen = [line.partition(" (UUID")[0] for line in slots.nvidia_smi("-L").splitlines()]
    facts = provenance.describe() | {"nvidia_smi": seen, "quick": bench.quick}
    with files.replacing(bench.folder / "machine.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def main(words=None):
    bench = Bench(words)
    describe(bench)
    for table, key, work in jobs(bench):
        if table not in bench.tables or key in set(bench.results(table)["key"]):
            continue
        if time.monotonic() > bench.end:
            sys.exit(MORE)
        try:
            row = work()
        except OutOfTime:
            sys.exit(MORE)
        except Exception as error:  # one that fails is a result too
            row = {"right": False, "error": f"{type(error).__name__}: {str(error)[:300]}"}
        clean()
        bench.keep(table, {"key": key} | row)
        print(table, key, row, flush=True)
    if "correctness" in bench.tables:
        wrong = bench.results("correctness").query("not right")
        print(f"{len(wrong)} of the checks went wrong", *wrong["key"], sep="\n   ")


if __name__ == "__main__":
    main(sys.argv[1:])
