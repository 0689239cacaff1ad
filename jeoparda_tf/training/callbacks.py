"""What happens at the ends of steps and epochs, as Keras callbacks, in the order in which `loop` lists them."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from tqdm import tqdm

from tfrecords_tools.errors import DataError, PeerError, StoppedError
from tfrecords_tools.manifest import Manifest

from ..input import pipeline
from ..models.spec import ModelSpec
from ..scoring import inference, scores
from ..stack import tf
from . import checkpoints, distributed, preemption, watchdog, workdir
from .config import FitConfig
from .schedules import Schedule

# Steps between two looks at the loss: each is a word among all ranks.
_LOOK_EVERY = 50
# Seconds, about, between two looks at whether a signal came: a word among all ranks too, and an end must come soon.
_ASK_EVERY = 2.0
Logs = dict[str, Any]


@dataclass
class Run:
    """What the callbacks of one run share.

    `step` counts the finished steps since the very start. `position` is where they have led in the plan of this number
    of ranks; a run that went on with another number differs by `shift`.
    """

    config: FitConfig
    manifest: Manifest
    spec: ModelSpec
    model: Any
    optimizer: Any
    variables: Any
    loss_sum: Any
    steps_per_epoch: int
    data: Path
    repeat_factors: Optional[np.ndarray] = None
    step: int = 0
    shift: int = 0
    history: list[Logs] = field(default_factory=list)
    watch: Any = None

    @property
    def checkpoint_folder(self) -> Path:
        return self.config.workdir / workdir.CHECKPOINTS

    @property
    def position(self) -> int:
        return self.step - self.shift

    @property
    def step_in_epoch(self) -> int:
        return self.position % self.steps_per_epoch

    @property
    def data_hash(self) -> str:
        """A hash of the train shards' hashes: the same records in the same order, wherever they lie."""
        shards = self.manifest.splits["train"].shards
        return hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()

    def average_ranks(self) -> None:
        """Makes all that ranks keep apart the same: BatchNorm's moving statistics and the sum of the losses."""
        moving = [
            weight
            for layer in self.model.layers
            if layer.trainable  # a mean of equal numbers may be another one in the last bit
            for weight in layer.non_trainable_weights
            if weight.dtype.is_floating
        ]
        distributed.average([*moving, self.loss_sum])

    def check_finite(self, weights: bool = False) -> None:
        """Ends all ranks when the sum of the losses of any is no number any more, or the weights are none."""
        values = [self.loss_sum, *(self.model.weights if weights else [])]
        sums = [float(tf.reduce_sum(tf.cast(value, tf.float64))) for value in values]
        of_all = distributed.gather(np.array([[sums[0], sum(sums[1:])]]))
        if np.isfinite(of_all).all():
            return
        if distributed.rank() != 0:
            raise PeerError(1)
        # The loss first: the weights are the same on all ranks, whoever spoilt them.
        column, worst = np.argwhere(~np.isfinite(of_all.T))[0]
        what = ("the loss is", "the weights sum to")[column]
        raise DataError(
            f"{what} {of_all[worst, column]} by step {self.step} (first on rank {worst})",
            path=self.config.workdir,
            remedy="lower --learning-rate or lengthen --warmup-epochs; look for pixels that are no numbers",
        )

    def save_within_epoch(self) -> None:
        """Saves between two steps."""
        self.check_finite(weights=True)
        self.average_ranks()
        self.save(None)

    def save(self, score: float | None) -> None:
        """Has rank 0 write a checkpoint; a failure there ends all ranks."""
        self.watch.enters("saving", self.step)
        error = None
        if distributed.rank() == 0:
            state: Logs = {"step": self.step, "score": score, "history": self.history}
            state |= {"shift": self.shift, "steps_per_epoch": self.steps_per_epoch}
            state |= {"ranks": distributed.size(), "data": self.data_hash}
            try:
                checkpoints.save(self.checkpoint_folder, self.variables, state)
                checkpoints.prune(self.checkpoint_folder, self.config.keep)
            except DataError as failure:
                error = failure
        distributed.agree(error)


class _Callback(tf.keras.callbacks.Callback):
    def __init__(self, run: Run):
        super().__init__()
        self.run = run


class Heart(_Callback):
    """Tells the watchdog what this rank does; the first of the callbacks."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.run.watch.enters("reading" if self._compiled else "compiling", self.run.step)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self.run.watch.enters("training" if self._compiled else "compiling", self.run.step)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._compiled = True
        self.run.watch.enters("reading", self.run.step)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.run.watch.enters("validating", self.run.step)

    _compiled = False


class LearningRate(_Callback):
    """Sets the learning rate of every step from the schedule."""

    def __init__(self, run: Run, schedule: Schedule):
        super().__init__(run)
        self.schedule = schedule

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self.run.optimizer.learning_rate = self.schedule(self.run.position)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs["learning_rate"] = self.schedule(self.run.position - 1)


class RanksInStep(_Callback):
    """Starts all ranks from the weights of rank 0, joins their BatchNorm statistics, checks that they did not drift."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        distributed.broadcast(self.run.model.weights)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.run.average_ranks()
        logs["loss"] = float(self.run.loss_sum) / self.run.steps_per_epoch
        sums = [float(tf.reduce_sum(tf.cast(weight, tf.float64))) for weight in self.run.model.weights]
        of_all = distributed.gather(np.array([sums]))
        drifted = [w.name for w, column in zip(self.run.model.weights, of_all.T) if len(set(column)) > 1]
        if drifted:
            raise DataError(
                f"the ranks' weights differ: {drifted[0]} and {len(drifted) - 1} more; this is a fault of the program"
            )


class LossGuard(_Callback):
    """Ends all ranks when the loss of any is no number any more."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self.run.step % _LOOK_EVERY == 0:
            self.run.check_finite()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.run.check_finite(weights=True)


class Progress(_Callback):
    """A bar over the steps of an epoch, and the rate of patches over all ranks."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        done, total = self.run.step_in_epoch, self.run.steps_per_epoch
        # None: no bar where the output is no terminal.
        hidden = None if distributed.rank() == 0 else True
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=f"epoch {epoch + 1}/{self.run.config.epochs}",
            unit="step",
            disable=hidden,
        )
        self._begin, self._first = time.perf_counter(), self.run.step

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._bar.close()
        seconds = time.perf_counter() - self._begin
        images = (self.run.step - self._first) * self.run.config.step_patches * distributed.size()
        logs.update(seconds=round(seconds, 3), images_per_second=round(images / seconds, 1))


class Validation(_Callback):
    """Scores the validation split, exactly, over all ranks."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        run, split = self.run, self.run.manifest.splits.get("val")
        if not split or not split.records:
            return
        dataset = pipeline.for_evaluation(
            run.data, run.manifest, "val", run.spec.features,
            batch=run.config.evaluate_batch, rank=distributed.rank(), size=distributed.size(),
        )  # fmt: skip
        predicted, labels = (distributed.gather(part) for part in inference.predict(run.model, dataset))
        found = scores.score(labels, predicted, 0.5)
        clipped = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
        loss = -np.mean(np.where(labels > 0, np.log(clipped), np.log1p(-clipped)))
        logs.update(
            val_loss=float(loss),
            val_f1_macro=found.macro.f1,
            val_f1_micro=found.micro.f1,
            val_ap_macro=found.macro.average_precision,
        )


class Journal(_Callback):
    """Keeps the history: history.csv, TensorBoard's logs, a line an epoch. Rank 0 alone."""

    COLUMNS = ("epoch", "step", "learning_rate", "loss", "val_loss", "val_f1_macro", "val_f1_micro", "val_ap_macro",
               "images_per_second", "seconds")  # fmt: skip

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        row = {"epoch": epoch + 1, "step": self.run.step, **logs}
        self.run.history.append({name: row.get(name) for name in self.COLUMNS})
        if distributed.rank() != 0:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.COLUMNS)
        writer.writeheader()
        writer.writerows(self.run.history)
        workdir.write_text(self.run.config.workdir / workdir.HISTORY, text.getvalue())
        self._summarise(row)
        print(_line(row, self.run.config.epochs), flush=True)

    def _summarise(self, row: Logs) -> None:
        if not hasattr(self, "_summary"):
            self._summary = tf.summary.create_file_writer(str(self.run.config.workdir / workdir.TENSORBOARD))
        with self._summary.as_default():
            for name in self.COLUMNS[2:]:
                if row.get(name) is not None:
                    tf.summary.scalar(name, row[name], step=row["epoch"])
        self._summary.flush()


class Checkpoints(_Callback):
    """Writes checkpoints: at the end of every epoch with its score, and within it every `checkpoint_every` steps."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        every, done = self.run.config.checkpoint_every, self.run.step_in_epoch
        if every and done and done % every == 0:
            self.run.save_within_epoch()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.run.loss_sum.assign(0.0)
        self.run.save(logs.get("val_f1_macro"))


class StopWhenAsked(_Callback):
    """Ends all ranks at the same step, after a checkpoint, when a signal has asked any of them to.

    The ranks look together, about `_ASK_EVERY` seconds apart: from what all have measured they agree on the step.
    Within validation they do not look; a stop asked for there comes at its end.
    """

    def __init__(self, run: Run, request: preemption.Request):
        super().__init__(run)
        self.request = request
        self._next = run.step + 1

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._begin, self._first = time.perf_counter(), self.run.step

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        # The last step of an epoch is followed by its end, which looks for itself.
        if self.run.step >= self._next and self.run.step_in_epoch and (number := self._look()):
            self.run.save_within_epoch()
            self._end(number)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch + 1 < self.run.config.epochs and (number := self._look()):
            self._end(number)

    def _look(self) -> int:
        """Returns the signal that any rank has got, the same on all; 0 for none."""
        now = time.perf_counter()
        seconds = (now - self._begin) / max(1, self.run.step - self._first)
        seen = distributed.gather(np.array([[self.request.signal, seconds]]))
        self._next = self.run.step + max(1, int(_ASK_EVERY / seen[:, 1].mean()))
        self._begin, self._first = now, self.run.step
        return signal.SIGINT if signal.SIGINT in seen[:, 0] else int(seen[:, 0].max())

    def _end(self, number: int) -> None:
        code = preemption.exit_code(number)
        self.run.watch.enters(watchdog.STOPPING, self.run.step)
        if distributed.rank() != 0:
            raise PeerError(code)
        total = self.run.config.epochs * self.run.steps_per_epoch + self.run.shift
        raise StoppedError(
            f"{signal.Signals(number).name} came; saved at step {self.run.step} of {total}",
            remedy="the same command with --resume goes on from there",
            exit_code=code,
        )


def _line(row: Logs, epochs: int) -> str:
    """One epoch in words."""
    parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.4f}"]
    if "val_loss" in row:
        parts += [
            f"validation loss {row['val_loss']:.4f}",
            f"macro F1 {row['val_f1_macro']:.3f}",
            f"micro F1 {row['val_f1_micro']:.3f}",
        ]
    rate = row["images_per_second"]
    return ", ".join([*parts, f"{rate:.0f} patches/s" if math.isfinite(rate) else ""])
