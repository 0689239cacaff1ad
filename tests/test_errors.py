"""Errors: one message with file, problem and way out, surviving the way between processes."""

import pickle

import pytest

from tfrecords_tools.errors import DataError, UsageError, UserError


@pytest.mark.parametrize("kind", [UserError, DataError, UsageError])
def test_pickling_keeps_everything(kind):
    error = pickle.loads(pickle.dumps(kind("is broken", path="a.tif", remedy="download it again")))
    assert type(error) is kind
    assert (error.problem, error.path, error.remedy) == ("is broken", "a.tif", "download it again")


def test_message():
    assert str(DataError("is broken", path="a.tif", remedy="mend it")) == "a.tif: is broken\n  mend it"
    assert str(DataError("is broken")) == "is broken"


def test_exit_codes():
    assert (DataError("x").exit_code, UsageError("x").exit_code) == (1, 2)
