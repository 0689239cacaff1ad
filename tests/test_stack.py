"""What is set before TensorFlow is imported."""

from __future__ import annotations

import ctypes
import types

import pytest

from jeoparda_tf import stack

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    library = types.SimpleNamespace(mallopt=lambda parameter, value: seen.append((parameter, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    return seen


def test_malloc_keeps_what_is_freed(calls):
    stack.keep_freed_memory()
    # The numbers of malloc.h: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD.
    assert sorted(calls) == [(-8, 1), (-4, 0), (-2, 64 * 2**20), (-1, 2**31 - 1)]


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_environment_says_of_malloc_stands(calls, monkeypatch, name):
    monkeypatch.setenv(name, "4")
    stack.keep_freed_memory()
    assert calls == []


def test_another_c_library_stays_as_it_is(monkeypatch):
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or types.SimpleNamespace())
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    stack.keep_freed_memory()  # which has no mallopt to call
    assert asked == [None]
