"""After an error of a device's library: whether the tests to come have a device at all."""

from __future__ import annotations

from typing import Any

import on_device
import pytest


def pytest_exception_interact(call: pytest.CallInfo[Any]) -> None:
    """Ends all tests where the device is lost."""
    if call.excinfo is not None and call.excinfo.errisinstance(RuntimeError):
        on_device.end_where_the_device_is_lost(str(call.excinfo.value))
