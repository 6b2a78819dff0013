"""The browser verifier as a person meets it: files chosen, lies refused, nothing sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from attest.checks import Check, Outcome
from attest.mock.azure import MockAzureCvm
from attest.mock.faults import FAULTS, apply_bundle_fault
from attest.mock.machine import MockAzureCpu, MockBoard, MockMachine, MockSnpCpu, MockTdxCpu
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import devices_of
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_quote import MockTdLaunch
from attest.mock.vendor import MockKeys
from attest.mock.world import MockWorld
from attest.refusal import Refused
from tests.simulators.mock_runtime import NONCE, NOW, honest_world, verdict
from tests.simulators.verifier_page import PAGE, VerifierPage, expectation

MOMENT = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
OUTCOMES = {10: "refused", 20: "unsupported", 30: "malformed"}

# Lies about what only reference values or revocation lists can judge: the page lists both as not checked.
NOT_CHECKED_HERE = {
    "wrong-measurement",
    "vmpl",
    "rolled-back-tcb",
    "old-guest",
    "revoked-chip",
    "no-revocation-list",
    "wrong-model",
    "wrong-tokenizer",
    "policy-swapped",
    "wrong-image",
    "wrong-region",
    "wrong-role",
}
SNP_FAULTS = sorted(
    name for name, fault in FAULTS.items() if fault.level == "bundle" and fault.needs in {"any", "snp"}
)
GPU_FAULTS = sorted(name for name, fault in FAULTS.items() if fault.needs == "gpu")
GPU_FAULTS_SEEN = {"gpu-left-out", "gpu-unnamed", "gpu-swapped"}


def mock_root(world: MockWorld) -> str:
    """The world's root, as a person would paste it."""
    mock = world.trust().mock
    assert mock is not None
    assert mock.ark_sha256 is not None
    return mock.ark_sha256


def ask(page: VerifierPage, world: MockWorld) -> None:
    """Type what the person expects of this world; as in its trust file, AMD's roots do not count."""
    page.fill(nonce=NONCE, at=MOMENT, mock_root=mock_root(world))
    page.driver.find_element(By.ID, "amd").click()


def seen(rows: tuple[Check, ...]) -> list[tuple[str, str, str]]:
    """Python's rows as the page shows them."""
    return [(" / ".join(row.part), row.name, row.outcome.value) for row in rows]


@pytest.fixture(scope="module")
def gpu_world(snp_world: MockWorld) -> MockWorld:
    """The same machine with one GPU."""
    board = MockBoard(MockGpuVendor.create(now=NOW), devices_of(1))
    return replace(snp_world, machine=replace(snp_world.machine, board=board))


@pytest.fixture(scope="module")
def azure_world(snp_world: MockWorld) -> MockWorld:
    """The same runtime in an Azure confidential VM."""
    cpu = snp_world.machine.cpu
    assert isinstance(cpu, MockSnpCpu)
    return replace(snp_world, machine=MockMachine(MockAzureCpu(MockAzureCvm(cpu.vendor))))


@pytest.fixture(scope="module")
def td_world(keys: MockKeys) -> MockWorld:
    """A runtime in a TDX guest."""
    return honest_world(keys, MockMachine(MockTdxCpu(MockTdxVendor.create(now=NOW), MockTdLaunch())))


def test_honest_mock_holds_and_is_loud(page: VerifierPage, snp_world: MockWorld) -> None:
    """All rows hold, the root is named, MOCK is said three times over, and nothing is 'accepted'."""
    ask(page, snp_world)
    shown = page.choose(snp_world.answer(NONCE))
    assert (shown.outcome, shown.code) == ("holds", "")
    assert shown.verdict == "signature chain and binding hold (MOCK)"
    assert shown.mock.startswith("MOCK")
    assert ("appraisal / vendor", "MOCK: no hardware protects this runtime", "noted") in shown.rows
    assert mock_root(snp_world) in shown.text
    assert "accepted" not in shown.text.lower()
    for gap in ("revocation", "reference values", "freshness", "TDX evidence", "GPU and switch evidence"):
        assert gap in shown.text


def test_rows_are_those_of_the_product(page: VerifierPage, snp_world: MockWorld) -> None:
    """Part, name, clause, expected, got, outcome and expiry of each row that is checked."""
    bundle = snp_world.answer(NONCE)
    (result,) = page.verify_bundles([bundle], **expectation(NOW, nonce=NONCE, mock_root=mock_root(snp_world)))
    product = [row.as_dict() for row in verdict(snp_world, bundle).checks]
    rows = [row for row in result["rows"] if row["name"] != "SNP revocation"]
    assert len(rows) == 17
    assert [row for row in rows if row not in product] == []
    (revocation,) = [row for row in result["rows"] if row["name"] == "SNP revocation"]
    assert revocation["outcome"] == "noted"
    assert result["expires"] == min(row["expires"] for row in rows if row["expires"])


@pytest.mark.parametrize("name", SNP_FAULTS)
def test_fault(name: str, page: VerifierPage, snp_world: MockWorld) -> None:
    """Each lie meets the product's code, outcome and rows, or is one that the page says it skips."""
    bundle = apply_bundle_fault(name, snp_world, NONCE)
    with pytest.raises(Refused) as refusal:
        verdict(snp_world, bundle)
    ask(page, snp_world)
    shown = page.choose(bundle)
    if name in NOT_CHECKED_HERE:
        assert shown.outcome == "holds"
        return
    assert (shown.outcome, shown.code) == (OUTCOMES[refusal.value.exit_code], refusal.value.code)
    assert f": {refusal.value.code}" in shown.verdict
    assert shown.rows[-1] == seen(refusal.value.checks)[-1]
    assert shown.rows[-1][2] == Outcome.REFUSED
    assert set(shown.rows) - {("CPU", "SNP revocation", "noted")} <= set(seen(refusal.value.checks))


@pytest.mark.parametrize("name", ["honest", *GPU_FAULTS])
def test_devices_are_matched_and_not_judged(name: str, page: VerifierPage, gpu_world: MockWorld) -> None:
    """Devices that are not the statement's are refused; those that are leave the page unable to judge."""
    bundle = gpu_world.answer(NONCE) if name == "honest" else apply_bundle_fault(name, gpu_world, NONCE)
    ask(page, gpu_world)
    shown = page.choose(bundle)
    if name in GPU_FAULTS_SEEN:
        assert (shown.outcome, shown.code) == ("refused", FAULTS[name].expected_code)
    elif name == "gpu-hidden":  # a statement of no devices: how many there must be, reference values say
        assert shown.outcome == "holds"
    else:
        assert (shown.outcome, shown.code) == ("unsupported", "devices-not-judged-here")
        assert shown.verdict.startswith("cannot judge")


@pytest.mark.parametrize("other", ["td_world", "azure_world"])
def test_other_tees_are_not_judged(
    page: VerifierPage, snp_world: MockWorld, other: str, request: pytest.FixtureRequest
) -> None:
    """Neither good nor bad."""
    ask(page, snp_world)
    world: MockWorld = request.getfixturevalue(other)
    shown = page.choose(world.answer(NONCE))
    assert (shown.outcome, shown.code) == ("unsupported", "cpu-not-judged-here")
    assert shown.verdict.startswith("cannot judge")


def test_without_a_nonce_freshness_is_open(page: VerifierPage, snp_world: MockWorld) -> None:
    """The row of the product."""
    page.fill(at=MOMENT, mock_root=mock_root(snp_world))
    shown = page.choose(snp_world.answer(NONCE))
    assert shown.outcome == "holds"
    assert ("statement", "nonce", "noted") in shown.rows


def test_mock_is_refused_unless_its_root_was_typed(page: VerifierPage, snp_world: MockWorld) -> None:
    """By default AMD's roots count and no other; then the mock is refused, loudly."""
    page.fill(nonce=NONCE, at=MOMENT)
    shown = page.choose(snp_world.answer(NONCE))
    assert (shown.outcome, shown.code) == ("refused", "snp-root-not-trusted")
    assert shown.mock.startswith("MOCK")


def test_named_statement(page: VerifierPage, snp_world: MockWorld) -> None:
    """The statement's digest, as a receipt or a colleague names it."""
    ask(page, snp_world)
    page.fill(statement_digest=snp_world.stated(NONCE).digest)
    assert page.choose(snp_world.answer(NONCE)).outcome == "holds"
    page.fill(statement_digest="sha256:" + "0" * 64)
    shown = page.choose(snp_world.answer(NONCE))
    assert (shown.outcome, shown.code) == ("refused", "statement-digest-mismatch")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("nonce", NONCE[:-1]),
        ("nonce", NONCE.upper()),
        ("statement_digest", "0" * 64),
        ("mock_root", "sha256:" + "0" * 64),
        ("at", "yesterday"),
        ("at", "2026-06-31T99:00:00Z"),
    ],
)
def test_a_mistyped_expectation_is_not_left_out(
    field: str, text: str, page: VerifierPage, snp_world: MockWorld
) -> None:
    """No result is shown until the field is mended: an ignored nonce would look like a matched one."""
    ask(page, snp_world)
    assert page.choose(snp_world.answer(NONCE)).outcome == "holds"
    page.fill(**{field: text})
    page.driver.find_element(By.ID, "check").click()
    assert not page.driver.find_element(By.ID, "result").is_displayed()
    assert page.driver.execute_script("return document.querySelectorAll('input:invalid').length") == 1


def test_a_mended_field_is_checked_again(page: VerifierPage, snp_world: MockWorld) -> None:
    """The button checks the chosen file under what is typed now."""
    page.fill(nonce=NONCE[::-1], at=MOMENT, mock_root=mock_root(snp_world))
    assert page.choose(snp_world.answer(NONCE)).code == "nonce-mismatch"
    nonce = page.driver.find_element(By.ID, "nonce")
    nonce.clear()
    nonce.send_keys(NONCE, Keys.ENTER)
    assert page.shown().outcome == "holds"


def test_checking_without_a_file_asks_for_one(page: VerifierPage, snp_world: MockWorld) -> None:
    """The button says what is missing; a file chosen afterwards is checked as always."""
    ask(page, snp_world)
    page.driver.find_element(By.ID, "check").click()
    assert not page.driver.find_element(By.ID, "result").is_displayed()
    assert page.driver.execute_script("return document.querySelectorAll('#file:invalid').length") == 1
    assert page.choose(snp_world.answer(NONCE)).outcome == "holds"


def test_a_dropped_file_is_checked(page: VerifierPage, snp_world: MockWorld) -> None:
    """Wherever on the page it falls; the browser does not open it instead of the page."""
    ask(page, snp_world)
    page.driver.execute_script(
        "const transfer = new DataTransfer();"
        "transfer.items.add(new File([arguments[0]], 'bundle.json'));"
        "const drop = new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true});"
        "window.prevented = !document.body.dispatchEvent(drop)",
        snp_world.answer(NONCE).decode(),
    )
    assert page.shown().outcome == "holds"
    assert page.driver.execute_script("return window.prevented") is True


def test_rows_open_by_keyboard_and_a_refusal_stands_open(page: VerifierPage, snp_world: MockWorld) -> None:
    """Details are native: reachable by Tab, opened by Enter; what refused needs no opening."""
    ask(page, snp_world)
    page.choose(apply_bundle_fault("report-bit", snp_world, NONCE))
    opened = page.driver.execute_script(
        "return [...document.querySelectorAll('#rows details')].map((each) => each.open)"
    )
    assert opened[-1] is True
    assert not any(opened[:-1])
    first = page.driver.find_element(By.CSS_SELECTOR, "#rows summary")
    first.send_keys(Keys.ENTER)
    assert page.driver.find_element(By.CSS_SELECTOR, "#rows details").get_attribute("open")


def test_text_of_evidence_is_never_markup(page: VerifierPage, snp_world: MockWorld) -> None:
    """Markup where a name is expected is refused, and shows as text where it is shown at all."""
    document = json.loads(snp_world.answer(NONCE))
    document["<img src=x>"] = "<b>bold</b>"
    shown = page.choose(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    assert shown.code == "bundle-members"
    assert (
        page.driver.execute_script("return document.querySelectorAll('#result img, #result b').length") == 0
    )


def test_too_large_a_file(page: VerifierPage) -> None:
    """Read up to the bound and not beyond."""
    shown = page.choose(b" " * (6 * 1024 * 1024))
    assert (shown.outcome, shown.code) == ("malformed", "bundle-too-large")


def test_an_error_of_the_page_itself_is_no_verdict(page: VerifierPage, snp_world: MockWorld) -> None:
    """Where WebCrypto fails, the page says that it cannot judge."""
    page.driver.execute_script("crypto.subtle.digest = () => { throw new Error('none'); }")
    ask(page, snp_world)
    shown = page.choose(snp_world.answer(NONCE))
    assert (shown.outcome, shown.code) == ("unsupported", "page-error")
    page.driver.get_log("browser")  # the error is on the console on purpose
    page.open()


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A local server, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def requests_of(page: VerifierPage) -> set[str]:
    """The addresses that the browser was about to ask since the last look."""
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }


def test_the_page_asks_for_nothing_but_itself(page: VerifierPage, snp_world: MockWorld) -> None:
    """Loading it and checking good and bad files makes no request, and nothing is wrong on its console."""
    page.driver.get_log("browser")
    requests_of(page)
    page.open()
    ask(page, snp_world)
    page.choose(snp_world.answer(NONCE))
    page.choose(apply_bundle_fault("report-bit", snp_world, NONCE))
    page.choose(b"{}")
    assert requests_of(page) == {PAGE.as_uri()}
    assert page.driver.get_log("browser") == []


def test_the_page_could_not_send_if_it_wanted(page: VerifierPage, listener: tuple[str, list[str]]) -> None:
    """A request from inside the page is stopped by its policy: its script cannot be turned into a leak."""
    address, asked = listener
    outcome = page.driver.execute_async_script(
        "const [address, done] = arguments;"
        "const image = new Image(); image.src = address + '/image';"
        "fetch(address + '/fetch', {mode: 'no-cors'}).then(() => done('sent'), () => done('stopped'));",
        address,
    )
    assert outcome == "stopped"
    assert asked == []
    refusals = [entry["message"] for entry in page.driver.get_log("browser")]
    assert sum("Content Security Policy" in message for message in refusals) >= 2
