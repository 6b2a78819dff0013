"""Where this gateway's collateral comes from, by its settings."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from attest.collateral.cache import Cache
from attest.collateral.fetch import Fetcher, FetchSettings
from attest.collateral.items import Service
from attest.collateral.source import CollateralSource, Offline, Online
from attest.reference import ReferenceValues
from gateway.settings import Settings


def source_of(settings: Settings, reference: ReferenceValues | None = None) -> CollateralSource:
    """The cache alone, or with the services behind it.

    Args:
        settings: ``collateral`` says which.
        reference: whose quorum names the instance of Azure Attestation that may be asked.
    """
    cache = Cache(settings.collateral_dir)
    if settings.collateral == "offline":
        return Offline(cache)
    return Online(cache, Fetcher(fetch_settings(settings, reference)))


def rechecking_source(settings: Settings, reference: ReferenceValues) -> CollateralSource | None:
    """The services, asked anew for what is older than half a re-check's interval; None where offline."""
    if settings.collateral == "offline":
        return None
    age = timedelta(seconds=settings.recheck_interval_s / 2)
    return Online(Cache(settings.collateral_dir), Fetcher(fetch_settings(settings, reference)), max_age=age)


def fetch_settings(settings: Settings, reference: ReferenceValues | None) -> FetchSettings:
    """How services are asked.

    Raises:
        Refused: ``collateral-host`` for an address that may not be one.
    """
    addresses: dict[Service, str] = {}
    if settings.intel_pcs_url is not None:
        addresses["intel-pcs"] = settings.intel_pcs_url
    quorum = None if reference is None else reference.quorum
    issuer = None if quorum is None else quorum.maa_issuer
    hosts = frozenset() if issuer is None else frozenset({urlsplit(issuer).hostname or ""})
    return FetchSettings(
        addresses=addresses, maa_hosts=hosts, use_environment_proxies=settings.use_environment_proxies
    )
