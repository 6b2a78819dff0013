"""One browser and one mock machine for all tests of the browser verifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attest.mock.vendor import MockKeys
from attest.mock.world import MockWorld
from tests.simulators.mock_runtime import honest_world
from tests.simulators.two_verifiers import BothVerifiers
from tests.simulators.verifier_page import VerifierPage, browser_paths, opened_page


@pytest.fixture(scope="session")
def browser_page() -> Iterator[VerifierPage]:
    """The page, open in headless Chromium; skips where there is no browser (``make browser`` installs it)."""
    paths = browser_paths()
    if paths is None:
        pytest.skip("chromium and chromedriver are not installed")
    with opened_page(*paths) as page:
        yield page


@pytest.fixture
def page(browser_page: VerifierPage) -> VerifierPage:
    """The page as just opened."""
    browser_page.open()
    return browser_page


@pytest.fixture(scope="session")
def keys() -> MockKeys:
    """A mock vendor's keys."""
    return MockKeys.generate()


@pytest.fixture(scope="session")
def snp_world(keys: MockKeys) -> MockWorld:
    """An honest runtime on a SEV-SNP machine without devices."""
    return honest_world(keys)


@pytest.fixture(scope="session")
def sev_snp(shared: Path) -> Path:
    """The folder of genuine SEV-SNP evidence."""
    return shared / "vectors" / "sev-snp"


@pytest.fixture
def both(browser_page: VerifierPage, snp_world: MockWorld) -> BothVerifiers:
    """Of the machine without devices."""
    return BothVerifiers(browser_page, snp_world)
