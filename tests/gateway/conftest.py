"""Fixtures of the gateway's tests."""

from __future__ import annotations

import pytest

from attest.mock.vendor import MockVendor


@pytest.fixture(scope="session")
def vendor() -> MockVendor:
    """One mock vendor: its RSA-4096 keys take a second or two to make."""
    return MockVendor.create()
