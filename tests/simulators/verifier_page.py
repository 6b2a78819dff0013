"""The browser verifier in a real Chromium, as a person and as its own script would use it."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from attest.evidence.cpu import SnpCollateral

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verifier" / "index.html"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 30

# The script's arguments come last but one, so that one function can wait for a list of checks.
_RUN = """
const [name, calls, done] = arguments;
const bytes = (text) => text === null ? null : Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
const started = performance.now();
const each = (call) => name === "bundle"
  ? sealgate.verifyBundle(bytes(call.bundle), {...call.expected, now: new Date(call.expected.now)})
  : sealgate.verifyReport(bytes(call.report), Object.fromEntries(Object.entries(call.collateral).map(
      ([part, text]) => [part, bytes(text)])), call.roots, new Date(call.now));
(async () => {
  const results = [];
  for (const call of calls) results.push(await each(call));
  done(JSON.stringify({results, milliseconds: performance.now() - started}));
})().catch((error) => done(JSON.stringify({error: String(error)})));
"""


def browser_paths() -> tuple[str, str] | None:
    """Chromium and its driver, or None where either is not installed."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@dataclass(frozen=True)
class Shown:
    """What a person sees.

    Args:
        outcome: ``holds``, ``refused``, ``unsupported`` or ``malformed``.
        code: the refusal's, or empty.
        verdict: the line in large type.
        mock: the warning, empty if there is none.
        rows: (heading, name, outcome) of each row.
        text: all that stands on the page.
    """

    outcome: str
    code: str
    verdict: str
    mock: str
    rows: tuple[tuple[str, str, str], ...]
    text: str


class VerifierPage:
    """The opened page."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver = driver
        self._folder = folder
        self._files = 0

    def open(self) -> None:
        """Load the page anew, from its file."""
        self.driver.get(PAGE.as_uri())

    def fill(self, **fields: str) -> None:
        """Paste into fields by their id, ``_`` for ``-``."""
        for name, text in fields.items():
            self.driver.execute_script(
                "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
                "field.dispatchEvent(new Event('input', {bubbles: true}))",
                name.replace("_", "-"),
                text,
            )

    def choose(self, bundle: bytes) -> Shown:
        """Choose a file and wait for the verdict."""
        self._files += 1
        path = self._folder / f"{self._files}.json"
        path.write_bytes(bundle)
        self.driver.execute_script("document.getElementById('result').hidden = true")
        self.driver.find_element(By.ID, "file").send_keys(str(path))
        return self.shown()

    def shown(self) -> Shown:
        """Wait for a verdict and read it."""
        result = self.driver.find_element(By.ID, "result")
        WebDriverWait(self.driver, _SECONDS, poll_frequency=0.02).until(lambda _: result.is_displayed())
        verdict = self.driver.find_element(By.ID, "verdict")
        rows = self.driver.execute_script(
            "return [...document.querySelectorAll('#rows li[data-name]')].map((row) => ["
            "row.closest('ol').parentElement.querySelector('h3').textContent,"
            "row.dataset.name, row.dataset.outcome])"
        )
        return Shown(
            outcome=verdict.get_attribute("data-outcome") or "",
            code=verdict.get_attribute("data-code") or "",
            verdict=verdict.text,
            mock=self.driver.find_element(By.ID, "mock").text,
            rows=tuple(map(tuple, rows)),
            text=self.driver.find_element(By.TAG_NAME, "main").text,
        )

    def verify_bundles(self, bundles: Sequence[bytes], **expected: Any) -> list[dict[str, Any]]:
        """What the script says of each; ``expected`` as ``expectation`` makes it."""
        return self._run("bundle", [{"bundle": _text(each), "expected": expected} for each in bundles])[0]

    def verify_reports(
        self, cases: Sequence[tuple[bytes, SnpCollateral]], roots: Mapping[str, Any], *, now: datetime
    ) -> list[dict[str, Any]]:
        """What the script says of each report under its certificates."""
        return self._run("report", [report_call(*case, roots, now) for case in cases])[0]

    def milliseconds(self, bundle: bytes, times: int, **expected: Any) -> float:
        """How long one check of a bundle takes, on the mean."""
        calls = [{"bundle": _text(bundle), "expected": expected}] * times
        return self._run("bundle", calls)[1] / times

    def _run(self, name: str, calls: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], float]:
        answer = json.loads(self.driver.execute_async_script(_RUN, name, calls))
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["results"], answer["milliseconds"]


def expectation(
    now: datetime, *, nonce: str | None = None, mock_root: str | None = None, amd: bool = False
) -> dict[str, Any]:
    """What the form would hand to the script."""
    roots = {"amd": amd, "mockArkSha256": mock_root}
    return {"nonce": nonce, "statementDigest": None, "roots": roots, "now": now.isoformat()}


def report_call(
    report: bytes, collateral: SnpCollateral, roots: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """One call of the script's ``verifyReport``."""
    parts = {name: _text(getattr(collateral, name)) for name in ("leaf", "intermediate", "ark", "crl")}
    return {"report": _text(report), "collateral": parts, "roots": dict(roots), "now": now.isoformat()}


@contextmanager
def opened_page(browser: str, driver: str) -> Iterator[VerifierPage]:
    """Chromium with the page open, every request on record."""
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with tempfile.TemporaryDirectory() as folder:
        chrome = webdriver.Chrome(options=options, service=Service(executable_path=driver))
        try:
            chrome.set_script_timeout(_SECONDS * 4)
            page = VerifierPage(chrome, Path(folder))
            page.open()
            yield page
        finally:
            chrome.quit()


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
