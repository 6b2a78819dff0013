"""Ask the vendors' services: the only module of ``attest`` that touches the network.

Hosts are on a list, answers have bounds of size and time, redirects are not followed, cookies are not kept,
and the environment's proxies count only if the operator says so. What a service says "later" to (429, 503) is
asked again, a few times and politely; anything else is a refusal. The certificates of TLS prove who answered
and nothing more: what came is judged by its own signatures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.parse import urlsplit

import httpx2

from attest.collateral.deadline import Deadline
from attest.collateral.items import Item, Service
from attest.refusal import Malformed, Refused

_CLAUSE: Final = "docs/reference/collateral.md"
_LATER: Final = frozenset({429, 502, 503, 504})
_OK: Final = 200
_REDIRECT: Final = 3  # the class of status codes, RFC 9110 section 15.4

ADDRESSES: Final[Mapping[Service, str]] = {
    "amd-kds": "https://kdsintf.amd.com",
    "intel-pcs": "https://api.trustedservices.intel.com",
    "intel-certificates": "https://certificates.trustedservices.intel.com",
    "nvidia-rim": "https://rim.attestation.nvidia.com",
    "nvidia-ocsp": "https://ocsp.ndis.nvidia.com",
    "nras": "https://nras.attestation.nvidia.com",
}
"""Where each service is. Azure Attestation's instances are named by the reference values."""


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """How services are asked.

    Args:
        addresses: of services that are elsewhere, e.g. a PCCS; ``https``, or ``http`` on loopback.
        maa_hosts: exact names of Azure instances that may be asked.
        timeout_s: for one answer, from the first byte sent to the last received.
        attempts: at most so many, the first included, where a service says "later".
        longest_pause_s: what is waited at most between two of them, whatever the service asks for.
        use_environment_proxies: honour ``HTTPS_PROXY`` and its like.
    """

    addresses: Mapping[Service, str] = field(default_factory=dict)
    maa_hosts: frozenset[str] = frozenset()
    timeout_s: float = 20.0
    attempts: int = 4
    longest_pause_s: float = 30.0
    use_environment_proxies: bool = False

    def __post_init__(self) -> None:
        for service, address in self.addresses.items():
            _require_address(service, address)


class Fetcher:
    """Asks services.

    Args:
        settings: how.
        sleep: waits between attempts.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: FetchSettings | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or FetchSettings()
        self._sleep = sleep
        self._clock = clock
        self._client: httpx2.Client | None = None

    def __repr__(self) -> str:
        return f"Fetcher({len(self._settings.addresses)} own addresses)"

    def fetch(self, item: Item) -> bytes:
        """One answer, as it is to be kept.

        Raises:
            Refused: ``collateral-host``, ``collateral-unreachable``, ``collateral-timeout``,
                ``collateral-redirect``, ``collateral-status``, ``collateral-busy``; Malformed
                ``collateral-too-large``, ``collateral-answer``.
        """
        url = self._url(item)
        for attempt in range(1, self._settings.attempts + 1):
            answer = self._ask(url, item)
            if answer.status == _OK:
                _require_plain(answer.headers)
                return item.keep(answer.headers, answer.body)
            if answer.status not in _LATER:
                is_redirect = answer.status // 100 == _REDIRECT
                raise Refused(
                    "collateral-redirect" if is_redirect else "collateral-status",
                    _CLAUSE,
                    expected=f"{item.key}: 200",
                    got=str(answer.status),
                )
            if attempt < self._settings.attempts:
                self._sleep(self._pause(answer.headers, attempt))
        got = f"{answer.status} at each of {self._settings.attempts} attempts"
        raise Refused("collateral-busy", _CLAUSE, expected=f"{item.key}: 200", got=got)

    def host_of(self, item: Item) -> str:
        """Who is asked for it.

        Raises:
            Refused: ``collateral-host``.
        """
        return urlsplit(self._url(item)).netloc

    def _pause(self, headers: Mapping[str, str], attempt: int) -> float:
        """What the service asks for, or twice as long each time; never longer than the settings say."""
        asked = headers.get("retry-after", "")
        seconds = float(asked) if asked.isascii() and asked.isdigit() else float(2 ** (attempt - 1))
        return min(seconds, self._settings.longest_pause_s)

    def _url(self, item: Item) -> str:
        if item.service == "maa":
            host = urlsplit(item.path).hostname or ""
            if host not in self._settings.maa_hosts:
                expected = ", ".join(sorted(self._settings.maa_hosts)) or "no instance"
                raise Refused("collateral-host", _CLAUSE, expected=expected, got=host)
            own = self._settings.addresses.get("maa")
            return f"https:{item.path}" if own is None else own + urlsplit(item.path).path
        addresses = self._settings.addresses
        if item.pccs_path is not None and "intel-pcs" in addresses and item.service not in addresses:
            return addresses["intel-pcs"].rstrip("/") + item.pccs_path
        return (addresses.get(item.service) or ADDRESSES[item.service]).rstrip("/") + item.path

    def _ask(self, url: str, item: Item) -> _Answer:
        headers = {"accept-encoding": "identity", "user-agent": "sealgate"}
        if item.content_type is not None:
            headers["content-type"] = item.content_type
        method = "GET" if item.body is None else "POST"
        seconds = self._settings.timeout_s
        end, deadline = self._clock() + seconds, Deadline(seconds)
        asked = self._http().stream(
            method, url, content=item.body, headers=headers, extensions={"trace": deadline.opened}
        )
        try:
            with deadline, asked as response:
                body = self._read(response, item, end)
                return _Answer(
                    response.status_code, {k.lower(): v for k, v in response.headers.items()}, body
                )
        except httpx2.TimeoutException as error:
            raise self._late(item) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            if deadline.passed:
                raise self._late(item) from error
            raise Refused(
                "collateral-unreachable", _CLAUSE, expected=f"{item.key}: an answer", got=type(error).__name__
            ) from error

    def _http(self) -> httpx2.Client:
        """Made once: reading the roots of TLS takes longer than most answers. Two made at once do no harm."""
        if self._client is None:
            # A connection is used once: an exchange that takes too long is ended with it.
            self._client = httpx2.Client(
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                follow_redirects=False,
                limits=httpx2.Limits(max_keepalive_connections=0),
                timeout=self._settings.timeout_s,
                trust_env=self._settings.use_environment_proxies,
            )
        return self._client

    def close(self) -> None:
        """Give up the client."""
        if self._client is not None:
            self._client.close()

    def _read(self, response: httpx2.Response, item: Item, end: float) -> bytes:
        body = bytearray()
        for data in response.iter_raw():
            body += data
            if len(body) > item.max_bytes:
                raise Refused(
                    "collateral-too-large",
                    _CLAUSE,
                    expected=f"{item.key}: at most {item.max_bytes} bytes",
                    got="more",
                )
            if self._clock() > end:
                raise self._late(item)
        return bytes(body)

    def _late(self, item: Item) -> Refused:
        within = f"{item.key}: an answer within {self._settings.timeout_s:g} s"
        return Refused("collateral-timeout", _CLAUSE, expected=within, got="none")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def _require_plain(headers: Mapping[str, str]) -> None:
    """Bytes as they were signed: we ask for no encoding, and one that comes nevertheless is not undone."""
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Malformed("collateral-answer", "an encoding that was not asked for", clause=_CLAUSE)


def _require_address(service: Service, address: str) -> None:
    """Only what cannot be read or changed on the way, or does not leave this machine."""
    parts = urlsplit(address)
    loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    plain = parts.username is None and not parts.query and not parts.fragment and parts.hostname
    if not plain or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise Refused("collateral-host", _CLAUSE, expected=f"an https address of {service}", got="another")
