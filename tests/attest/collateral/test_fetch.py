"""Asking services over real loopback HTTP: bounds, faults, patience."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from attest.collateral import answers, items
from attest.collateral.cache import Cache
from attest.collateral.fetch import ADDRESSES, Fetcher, FetchSettings
from attest.collateral.items import Item, Service
from attest.collateral.source import Offline, Online
from attest.evidence.snp_tcb import TcbVersion
from attest.mock.vendor import MockVendor
from attest.refusal import Malformed, Refused
from tests.simulators.collateral_services import Answer, CollateralServices, empty_list, rim_answer

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CRL = replace(items.amd_crl("Genoa", "vcek"), keep=answers.as_is)
"""Whatever is answered: what answers have to look like is tested by itself."""


class World:
    """Services and somebody who asks them; time does not pass by itself."""

    def __init__(self, services: CollateralServices, addresses: dict[Service, str]) -> None:
        self.services = services
        self.addresses = addresses
        self.slept: list[float] = []
        self.fetchers: list[Fetcher] = []

    def fetcher(self, **settings: object) -> Fetcher:
        """One with these settings."""
        asked = FetchSettings(addresses=self.addresses, **settings)  # type: ignore[arg-type]  # tests name real ones
        fetcher = Fetcher(asked, sleep=self.slept.append)
        self.fetchers.append(fetcher)
        return fetcher

    def code(self, item: Item = CRL, **settings: object) -> str:
        """How a fetch refuses."""
        with pytest.raises(Refused) as refusal:
            self.fetcher(**settings).fetch(item)
        return refusal.value.code


@pytest.fixture
def world() -> Iterator[World]:
    """Services that know one list and one manifest."""
    known = {
        CRL.path: Answer(b"list"),
        "/v1/rim/NV_1": rim_answer("NV_1", b"<rim/>"),
        "/.well-known/jwks.json": Answer(b'{"keys":[]}'),
        "/certs": Answer(b'{"keys":[1]}'),
    }
    services = CollateralServices(known)
    with services.running() as addresses:
        world = World(services, addresses)
        yield world
        for fetcher in world.fetchers:
            fetcher.close()


def test_an_answer(world: World) -> None:
    """Bytes as they came; of golden values the document alone."""
    assert world.fetcher().fetch(CRL) == b"list"
    assert world.fetcher().fetch(items.rim("NV_1")) == b"<rim/>"
    assert world.fetcher().fetch(items.nras_keys()) == b'{"keys":[]}'
    assert world.slept == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Answer(status=404), "collateral-status"),
        (Answer(status=500), "collateral-status"),
        (Answer(status=204), "collateral-status"),
        (Answer(status=302, headers={"location": "http://127.0.0.1:1/"}), "collateral-redirect"),
        (Answer(status=301, headers={"location": "https://evil.example/"}), "collateral-redirect"),
        (Answer(bytes(CRL.max_bytes + 1)), "collateral-too-large"),
        (Answer(drip=True), "collateral-too-large"),
        (Answer(b"lis", cut=True), "collateral-unreachable"),
        (Answer(b"list", delay_s=1.0), "collateral-timeout"),
        (Answer(slow_head=True), "collateral-timeout"),
        (Answer(b"list", headers={"content-encoding": "gzip"}), "collateral-answer"),
    ],
)
def test_faults(world: World, fault: Answer, code: str) -> None:
    """Each by its own code; none is asked twice."""
    world.services.faults = [fault]
    assert world.code(timeout_s=0.4) == code
    assert len(world.services.asked) == 1


def test_a_byte_now_and_then_is_no_answer(world: World) -> None:
    """The time is that of the whole answer, its head included: nobody holds us longer."""
    world.services.faults = [Answer(slow_head=True)]
    begun = time.monotonic()
    assert world.code(timeout_s=0.3) == "collateral-timeout"
    assert time.monotonic() - begun < 5


def test_no_cookies(world: World) -> None:
    """What a service would know us by is not kept."""
    world.services.answers[CRL.path] = Answer(b"list", headers={"set-cookie": "who=me; Path=/"})
    fetcher = world.fetcher()
    assert fetcher.fetch(CRL) == fetcher.fetch(CRL) == b"list"
    assert world.services.cookies == [None, None]


def test_largest_answer(world: World) -> None:
    """The bound itself is allowed."""
    world.services.faults = [Answer(bytes(CRL.max_bytes))]
    assert len(world.fetcher().fetch(CRL)) == CRL.max_bytes


def test_later_is_asked_again_politely(world: World) -> None:
    """As long as the service says, within a bound; without its word, twice as long each time."""
    world.services.faults = [
        Answer(status=429, headers={"retry-after": "7"}),
        Answer(status=503, headers={"retry-after": "9999"}),
        Answer(status=503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    ]
    assert world.fetcher().fetch(CRL) == b"list"
    assert world.slept == [7.0, 30.0, 4.0]


def test_later_for_ever(world: World) -> None:
    """Some attempts, and then a refusal."""
    world.services.faults = [Answer(status=429)] * 9
    assert world.code(attempts=3) == "collateral-busy"
    assert (len(world.services.asked), world.slept) == (3, [1.0, 2.0])


def test_nobody_there(world: World) -> None:
    """A port where nothing listens."""
    world.addresses = {"amd-kds": "http://127.0.0.1:9"}
    fetcher = world.fetcher()
    with pytest.raises(Refused) as refusal:
        fetcher.fetch(CRL)
    assert refusal.value.code == "collateral-unreachable"


@pytest.mark.parametrize(
    "address",
    [
        "http://kdsintf.amd.com",
        "http://127.0.0.2",
        "ftp://127.0.0.1",
        "https://user@kdsintf.amd.com",
        "https://kdsintf.amd.com/?x=1",
        "https://kdsintf.amd.com/#x",
        "https://",
        "kdsintf.amd.com",
    ],
)
def test_addresses_that_are_not_asked(address: str) -> None:
    """Only encrypted, or on this machine."""
    with pytest.raises(Refused) as refusal:
        FetchSettings(addresses={"amd-kds": address})
    assert refusal.value.code == "collateral-host"


def test_every_service_has_an_encrypted_address() -> None:
    """Of the vendors' own; Azure's instances are named by the operator."""
    assert all(address.startswith("https://") for address in ADDRESSES.values())
    assert set(ADDRESSES) == {
        "amd-kds",
        "intel-pcs",
        "intel-certificates",
        "nvidia-rim",
        "nvidia-ocsp",
        "nras",
    }


def test_a_pccs_stands_in_for_intels_certificates_too(world: World) -> None:
    """Behind a PCCS nobody may reach Intel: the root's list comes from it, in hex or DER."""
    der = empty_list()
    path = "/sgx/certification/v4/rootcacrl"
    root_list = items.intel_root_crl()
    pccs = world.addresses["intel-pcs"]
    world.addresses = {"intel-pcs": pccs}
    for body in (der, der.hex().encode(), der.hex().upper().encode()):
        world.services.answers[path] = Answer(body)
        assert world.fetcher().fetch(root_list) == der
    assert world.fetcher().host_of(root_list) == urlsplit(pccs).netloc
    world.services.answers[path] = Answer(b"00")
    assert world.code(root_list) == "collateral-answer"
    world.addresses = {"intel-pcs": pccs, "intel-certificates": pccs}
    world.services.answers[root_list.path] = Answer(der)
    assert world.fetcher().fetch(root_list) == der
    world.addresses = {}
    assert world.fetcher().host_of(root_list) == "certificates.trustedservices.intel.com"


def test_azure_instances_are_on_a_list(world: World) -> None:
    """A token's service is asked only if the reference values name it."""
    keys = items.maa_keys("https://sharedweu.weu.attest.azure.net")
    assert world.code(keys) == "collateral-host"
    named = frozenset({"sharedweu.weu.attest.azure.net"})
    assert world.fetcher(maa_hosts=named).fetch(keys) == b'{"keys":[1]}'


@pytest.mark.parametrize(
    "issuer", ["http://a.example", "https://a.example/x", "https://a:8@b", "", "https://"]
)
def test_issuers_that_are_no_address(issuer: str) -> None:
    """Refused before anybody is asked."""
    with pytest.raises(Malformed) as refusal:
        items.maa_keys(issuer)
    assert refusal.value.code == "collateral-name"


@pytest.mark.parametrize("name", ["", "a/b", "..%2f", "..", ".a", "A" * 161, "a b"])
def test_names_of_golden_values(name: str) -> None:
    """What may stand in an address, and nothing else."""
    with pytest.raises(Malformed) as refusal:
        items.rim(name)
    assert refusal.value.code == "collateral-name"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"rim":""}',
        b'{"rim":7}',
        b'{"rim":"PHJpbS8+!"}',
        b'{"rim":"PHJpbS8+","sha256":"' + b"0" * 64 + b'"}',
    ],
)
def test_manifests_that_are_none(world: World, body: bytes) -> None:
    """The service's answer has a form, and its digest is that of the document."""
    world.services.faults = [Answer(body)]
    with pytest.raises(Malformed) as refusal:
        world.fetcher().fetch(items.rim("NV_1"))
    assert refusal.value.code == "collateral-answer"
    digest = hashlib.sha256(b"<rim/>").hexdigest().encode()
    world.services.faults = [Answer(b'{"rim":"PHJpbS8+","sha256":"' + digest + b'"}')]
    assert world.fetcher().fetch(items.rim("NV_1")) == b"<rim/>"


@pytest.mark.parametrize(
    "kept", [b"", b"[]", b'{"body":"","issuer_chain":7}', b'{"body":1,"issuer_chain":""}']
)
def test_kept_answers_of_another_form(kept: bytes) -> None:
    """A cache that somebody else wrote is refused, not believed."""
    with pytest.raises(Malformed, match="collateral-"):
        items.parted(kept)


def test_questions_about_chips() -> None:
    """AMD 57230: two digits a level, sixteen hex digits of a Turin, and its fifth level."""
    tcb = TcbVersion(boot_loader=1, tee=0, snp=4, microcode=209, fmc=5)
    chip = bytes(range(64))
    path = items.vcek("Genoa", chip, tcb).path
    assert path == f"/vcek/v1/Genoa/{chip.hex()}?blSPL=01&teeSPL=00&snpSPL=04&ucodeSPL=209"
    path = items.vcek("Turin", chip, tcb).path
    assert path == f"/vcek/v1/Turin/{chip[:8].hex()}?fmcSPL=05&blSPL=01&teeSPL=00&snpSPL=04&ucodeSPL=209"


# Sources


def test_online_asks_once_and_again_when_it_is_old(world: World, tmp_path: Path) -> None:
    """What is fresh is read from the disk; a re-check asks for what is older than it wants."""
    cache = Cache(tmp_path)
    source = Online(cache, world.fetcher())
    assert source.find(CRL, NOW) == source.get(CRL, NOW + CRL.fresh_for) == b"list"
    assert source.fetched_at(CRL) == NOW
    assert len(world.services.asked) == 1
    world.services.answers[CRL.path] = Answer(b"newer")
    assert source.get(CRL, NOW + CRL.fresh_for + timedelta(seconds=1)) == b"newer"
    eager = Online(cache, world.fetcher(), max_age=timedelta(minutes=5))
    later = NOW + CRL.fresh_for + timedelta(minutes=20)
    world.services.answers[CRL.path] = Answer(b"newest")
    assert source.find(CRL, later) == b"newer"
    assert eager.find(CRL, later) == b"newest"


def test_a_failed_fetch_is_a_refusal_and_never_an_old_answer(world: World, tmp_path: Path) -> None:
    """Although the old one is still on the disk."""
    source = Online(Cache(tmp_path), world.fetcher())
    source.get(CRL, NOW)
    world.services.faults = [Answer(status=500)]
    with pytest.raises(Refused) as refusal:
        source.get(CRL, NOW + CRL.fresh_for + timedelta(seconds=1))
    assert refusal.value.code == "collateral-status"


def test_what_was_damaged_on_the_disk_is_asked_for_again(world: World, tmp_path: Path) -> None:
    """Refused, and fetched anew; without a network it stays a refusal."""
    cache = Cache(tmp_path)
    source = Online(cache, world.fetcher())
    source.get(CRL, NOW)
    (blob,) = (tmp_path / "blobs").iterdir()
    blob.write_bytes(b"evil")
    with pytest.raises(Refused) as refusal:
        Offline(cache).get(CRL, NOW)
    assert refusal.value.code == "collateral-cache-altered"
    assert source.find(CRL, NOW) == b"list"
    assert len(world.services.asked) == 2
    assert Offline(cache).get(CRL, NOW) == b"list"


def test_what_ended_is_asked_for_again(world: World, tmp_path: Path) -> None:
    """Although it was fetched a moment ago; and an entry from the future is not the freshest of all."""
    vendor = MockVendor.create()
    cache = Cache(tmp_path)
    source = Online(cache, world.fetcher())
    entry = cache.write(CRL.key, vendor.revocation_list((), now=NOW - timedelta(days=365)), NOW)
    assert entry.not_after is not None
    assert entry.not_after < NOW
    assert Offline(cache).find(CRL, NOW) is None
    assert Offline(cache).get(CRL, NOW) == cache.blob(entry)
    assert source.find(CRL, NOW) == b"list"
    cache.write(CRL.key, b"for ever", NOW + timedelta(days=9999))
    assert source.get(CRL, NOW) == b"list"
    kept = cache.entry(CRL.key)
    assert kept is not None
    assert kept.source == urlsplit(world.addresses["amd-kds"]).netloc


def test_offline_never_asks(tmp_path: Path) -> None:
    """What is missing is named, so that it can be imported."""
    cache = Cache(tmp_path)
    source = Offline(cache)
    with pytest.raises(Refused) as refusal:
        source.get(CRL, NOW)
    assert (refusal.value.code, refusal.value.expected) == ("collateral-missing", CRL.key)
    cache.write(CRL.key, b"list", NOW - timedelta(days=400))
    assert source.get(CRL, NOW) == source.find(CRL, NOW) == b"list"


def test_one_question_however_many_ask(world: World, tmp_path: Path) -> None:
    """Threads that want the same wait for one answer; each still gets it."""
    world.services.answers[CRL.path] = Answer(b"list", delay_s=0.05)
    source = Online(Cache(tmp_path), world.fetcher())
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(source.get(CRL, NOW))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [b"list"] * 5
    assert len(world.services.asked) == 1


def test_items_are_plain() -> None:
    """Two descriptions of one thing are equal, whatever reads their answers."""
    assert items.tcb_info(bytes(6)) == items.tcb_info(bytes(6))
    assert replace(CRL, path="/x") != CRL
