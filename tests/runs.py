"""A run directory as `fit` and `evaluate` leave it, without training: plausible history and scores for the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import CLASSES, CLC43
from jeoparda_tf.models.spec import spec_for
from jeoparda_tf.records import Patch
from jeoparda_tf.scoring import results
from jeoparda_tf.scoring.scores import score
from jeoparda_tf.training.config import FitConfig
from tests import shards
from tfrecords_tools.manifest import Feature, Manifest, Nomenclature

SIZES = {10: 12, 20: 6, 60: 2}
FEATURES = tuple(
    Feature(f.name, f.dtype, (SIZES[f.gsd], SIZES[f.gsd], f.shape[2]), f.gsd, f.bands)
    for f in bands.S2_FEATURES
)


def correlated(
    patches: int, nomenclature: Nomenclature = CLC43, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels (bool) and scores (float32) [patches, classes]: imbalanced, neighbours confused."""
    generator = np.random.default_rng(seed)
    counts = {c.name: c.patches for c in CLASSES}
    share = np.array([counts.get(name, 20_000) for name in nomenclature.classes]) / 590_326
    # Latent fields shared by neighbouring classes make them occur, and be mistaken, together.
    latent = generator.normal(size=(patches, len(share)))
    latent = latent + 0.6 * np.roll(latent, 1, axis=1)
    labels = latent.argsort(axis=0).argsort(axis=0) >= np.round(patches * (1 - share))
    labels[np.arange(patches), generator.choice(len(share), patches, p=share / share.sum())] = True
    noise = generator.normal(size=labels.shape) + 0.5 * np.roll(labels, 1, axis=1)
    skill = 1.2 + 2.2 * np.sqrt(share / share.max())
    logits = skill * (2 * labels - 1.2 + 0.55 * noise)
    return labels, (1 / (1 + np.exp(-logits))).astype(np.float32)


def write_history(path: Path, epochs: int, validated: bool = True) -> None:
    """Writes a history of falling loss and rising F1, or one without validation."""
    generator = np.random.default_rng(1)
    columns = ("epoch", "step", "learning_rate", "loss", "val_loss", "val_f1_macro", "val_f1_micro", "val_ap_macro",
               "images_per_second", "seconds")  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for epoch in range(1, epochs + 1):
            rise = 1 - np.exp(-epoch / 6) + generator.normal(0, 0.01)
            rate = 0.04 * min(1.0, epoch / 2) * 0.1 ** sum(epoch > share * epochs for share in (0.6, 0.85))
            scored = (0.35 - 0.2 * rise, 0.55 * rise, 0.75 * rise, 0.6 * rise) if validated else ("",) * 4
            writer.writerow((epoch, 100 * epoch, rate, 0.6 - 0.42 * rise, *scored, 55.5, 61.2))


def write(
    workdir: Path,
    data: Path,
    patches: int = 300,
    nomenclature: Nomenclature = CLC43,
    origin: str = "synthetic sample",
    epochs: int = 20,
) -> Manifest:
    """Writes a run into `workdir` and its shards into `data`; small patches with a structure the eye can follow."""
    labels, scores = correlated(patches, nomenclature)
    generator = np.random.default_rng(2)
    members = []
    for number, row in enumerate(labels):
        arrays = {
            f.name: (generator.gamma(4, 300, f.shape) + 40 * np.arange(f.shape[0])[:, None, None]).astype(
                np.uint16
            )
            for f in FEATURES
        }
        members.append(Patch(f"S2A_MSIL2A_20170613T101031_{number}_7", row.astype(np.int64), arrays))
    manifest = shards.write_patches(
        data, {"train": members[:4], "test": members}, features=FEATURES, nomenclature=nomenclature, origin=origin
    )  # fmt: skip
    workdir.mkdir(parents=True, exist_ok=True)
    write_history(workdir / "history.csv", epochs)
    spec = spec_for(manifest, bands.S2_BANDS, name="resnet50", l2=1e-4, dropout=0.3)
    (workdir / "model.json").write_text(spec.to_json())
    config = FitConfig(data=data, workdir=workdir, epochs=epochs)
    (workdir / "config.json").write_text(config.to_json())
    versions = {"jeoparda_tf": "0.1.0", "tensorflow": "2.15.1", "horovod": "0.28.1"}
    (workdir / "environment.json").write_text(json.dumps({"versions": versions, "ranks": 2}))
    about = {"split": "test", "data": str(data), "origin": origin, "nomenclature": nomenclature.name,
             "model": "resnet50", "step": 1700, "thresholds": "0.5 for all classes"}  # fmt: skip
    results.write(workdir, about, score(labels, scores, 0.5), nomenclature.classes, labels, scores)
    return manifest


def train(
    folder: Path, *names: str, features: Sequence[Feature] = bands.S2_FEATURES, **settings: Any
) -> Path:
    """Trains a tiny model for one step on random patches, shards in `folder/shards`; returns its workdir."""
    from jeoparda_tf.training import loop

    data, workdir = folder / "shards", folder / "run"
    shards.write(data, {"train": 8}, features=features)
    fixed = {"model": "tiny", "batch": 8, "epochs": 1, "warmup_epochs": 0.0}
    return loop.train(FitConfig(data=data, workdir=workdir, bands=names, **{**fixed, **settings}))
