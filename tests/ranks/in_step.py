"""Run by every rank of tests/test_distributed.py: prints one JSON object of what the rank saw."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import numpy as np

from jeoparda_tf.training import callbacks, distributed, loop, preemption
from jeoparda_tf.training.config import FitConfig
from tfrecords_tools.errors import DataError

data, out = map(Path, sys.argv[1:])
distributed.start()
rank, size = distributed.rank(), distributed.size()
seen: dict[str, object] = {"rank": rank, "size": size}

threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
seen["cores"] = sorted({core for thread in threads for core in os.sched_getaffinity(thread)})
seen["cycle"] = os.environ["HOROVOD_CYCLE_TIME"]
seen["gathered"] = distributed.gather(np.full((rank, 2), rank, np.float32)).tolist()

config = FitConfig(
    data=data, workdir=out / "run", model="tiny", bands=("rgb",), batch=4, epochs=2, dropout=0.3
)
run = loop._prepare(config, ExitStack())
run.watch = Mock()
weights_before = [weight.numpy().copy() for weight in run.model.weights]


class Seen(callbacks.RanksInStep):
    """Notes each rank's moving statistics before and all weights after the ranks were joined."""

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        apart = np.concatenate([w.numpy().ravel() for w in self.run.model.non_trainable_weights])
        super().on_epoch_end(epoch, logs)
        joined = np.concatenate([w.numpy().ravel() for w in self.run.model.non_trainable_weights])
        both = distributed.gather(np.stack([apart, joined])[None])
        seen.setdefault("apart", []).append(float(np.ptp(both[:, 0], axis=0).max()))
        seen.setdefault("joined", []).append(float(np.ptp(both[:, 1], axis=0).max()))
        seen.setdefault("error of the mean", []).append(float(abs(both[:, 0].mean(0) - joined).max()))
        flat = np.concatenate([w.numpy().ravel() for w in self.run.model.weights])
        seen.setdefault("weights", []).append(float(np.ptp(distributed.gather(flat[None]), axis=0).max()))


callbacks.RanksInStep = Seen
loop._epochs(run, preemption.Request())
seen["trained"] = any((a != b.numpy()).any() for a, b in zip(weights_before, run.model.weights))

# A rank that drifts must be noticed.
if rank == 1:
    run.model.trainable_weights[0].assign_add(1e-3 * np.ones(run.model.trainable_weights[0].shape))
try:
    callbacks.RanksInStep.__mro__[1].on_epoch_end(callbacks.RanksInStep(run), 0, {})
except DataError as error:
    seen["drift"] = str(error)
(out / f"rank{rank}.json").write_text(json.dumps(seen))
