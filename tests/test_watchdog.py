"""What the watchdog of a rank does when another one has told why the run ends; whole runs are in test_faults.py."""

from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf.training import distributed, watchdog

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(("phase", "codes"), [("training", [1]), (watchdog.STOPPING, [])])
def test_a_rank_that_was_asked_to_stop_ends_by_itself_all_others_at_once(monkeypatch, tmp_path, phase, codes):
    ended = []

    def end(code: int) -> None:
        ended.append(code)
        watch._stop.set()

    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "gather", lambda own: np.concatenate([own, own]))
    monkeypatch.setattr(watchdog, "_GRACE", 0.1)
    monkeypatch.setattr(watchdog.os, "_exit", end)
    with watchdog.Watchdog(tmp_path, limit=2.0) as watch:
        watch.enters(phase, 5)
        (tmp_path / "said").touch()
        watch._thread.join(3)
    assert ended == codes
