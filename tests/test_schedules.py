"""Learning rates by hand."""

from __future__ import annotations

import pytest

from jeoparda_tf.training.schedules import Schedule


def test_step_with_warm_up():
    rate = Schedule("step", 0.8, total=100, warmup=4, decay_at=(0.5, 0.9), decay_factor=0.1)
    assert [rate(s) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert [rate(s) for s in (49, 50, 89, 90, 99)] == pytest.approx([0.8, 0.08, 0.08, 0.008, 0.008])


def test_cosine_ends_at_zero_after_the_warm_up():
    rate = Schedule("cosine", 1.0, total=110, warmup=10)
    assert [rate(s) for s in (0, 9, 10, 60, 110)] == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])


def test_one_cycle_rises_for_three_tenths():
    rate = Schedule("1cycle", 0.2, total=101)
    assert [rate(s) for s in (0, 15, 30, 100)] == pytest.approx([0.2 / 25, (0.2 + 0.2 / 25) / 2, 0.2, 0.2e-4])
    assert rate(65) == pytest.approx((0.2 + 0.2e-4) / 2)
    rates = [rate(s) for s in range(101)]
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)


def test_constant_and_a_single_step():
    assert Schedule("constant", 0.3, total=10)(9) == 0.3
    assert 0 < Schedule("1cycle", 0.3, total=1)(0) <= 0.3
