"""The learning rate as one pure function of the global step, warm-up included."""

from __future__ import annotations

import math
from dataclasses import dataclass

# 1cycle as in Smith & Topin 2018 (arXiv:1708.07120), with the cosine halves of fastai: 30 % up from peak / 25, then
# down to peak / 10,000.
_RISE, _START, _END = 0.3, 1 / 25, 1e-4


@dataclass(frozen=True)
class Schedule:
    """Learning rate by step.

    Attributes:
        kind: "constant", "step", "cosine" or "1cycle".
        peak: highest rate, already scaled by the number of ranks.
        total: steps of the whole run.
        warmup: steps of linear increase, from peak / warmup in the first; not for 1cycle.
        decay_at: shares of `total` at which "step" multiplies by `decay_factor`.
        decay_factor: see there.
    """

    kind: str
    peak: float
    total: int
    warmup: int = 0
    decay_at: tuple[float, ...] = ()
    decay_factor: float = 0.1

    def __call__(self, step: int) -> float:
        """Returns the rate of global step number `step`, counted from 0."""
        if self.kind == "1cycle":
            return self._one_cycle(step)
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if self.kind == "step":
            return self.peak * self.decay_factor ** sum(step >= share * self.total for share in self.decay_at)
        if self.kind == "cosine":
            return self.peak * _cosine((step - self.warmup) / max(1, self.total - self.warmup))
        return self.peak

    def _one_cycle(self, step: int) -> float:
        top = _RISE * (self.total - 1)
        if step < top:
            low, share = self.peak * _START, 1.0 - step / top
        else:
            low, share = self.peak * _END, (step - top) / max(1e-9, self.total - 1 - top)
        return low + (self.peak - low) * _cosine(share)


def _cosine(share: float) -> float:
    """Falls from 1 at 0 to 0 at 1."""
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
