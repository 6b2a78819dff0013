"""The gateway's settings: defaults, then config.toml, then the environment, then flags.

    $SEALGATE_HOME/                         ~/.local/share/sealgate unless set
        config.toml                         table [gateway]: the settings of this module
        trust.toml  reference.toml          whom and what a verdict accepts
        gateway/keys.sqlite                 API keys, hashed
        gateway/signing_key.pem             who this gateway is to a runtime
        audit/log.jsonl                     the write-ahead log
        models/  mock-tee/                  the runtime's and the mock vendor's

A later source wins for a setting as a whole. Everything is checked when loaded, unknown names in the file
too. No setting is a secret: keys have files of their own, and an address with a password in it is refused.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "SEALGATE_"
TABLE = "gateway"
_OTHER_TABLES = frozenset({"runtime"})
_MAX_CONFIG_BYTES = 1024 * 1024


class SettingsError(Exception):
    """A setting is wrong; ``problems`` has a line for each, with the name and where the value is from."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def _in_home(*parts: str) -> Any:
    return Field(default_factory=lambda values: values["home"].joinpath(*parts))


def _seconds(default: float, *, description: str) -> Any:
    return Field(default, gt=0, le=86400, allow_inf_nan=False, description=description)


class Settings(BaseSettings):
    """All settings, checked. Made by ``load_settings``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    home: Annotated[
        Path, Field(description="Folder of everything below. Not settable in the file in it.")
    ] = Path("~/.local/share/sealgate")
    host: Annotated[str, Field(description="Address that the gateway listens on.", min_length=1)] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65535, description="Port that it listens on; 0 takes any.")] = 8080
    runtime_url: Annotated[str, Field(description="The runtime to verify and to send to.")] = (
        "http://127.0.0.1:8443"
    )
    trust_file: Annotated[Path, Field(description="Roots of trust: which vendors may vouch.")] = _in_home(
        "trust.toml"
    )
    reference_file: Annotated[Path, Field(description="Reference values: which runtimes are accepted.")] = (
        _in_home("reference.toml")
    )
    policy_dir: Annotated[
        Path | None, Field(description="Folder of Cedar policies; unset: the ones that come with Sealgate.")
    ] = None
    audit_file: Annotated[Path, Field(description="The write-ahead log of decisions.")] = _in_home(
        "audit", "log.jsonl"
    )
    keys_file: Annotated[Path, Field(description="Store of API keys.")] = _in_home("gateway", "keys.sqlite")
    signing_key_file: Annotated[
        Path, Field(description="Ed25519 key by which runtimes know this gateway; made if absent.")
    ] = _in_home("gateway", "signing_key.pem")
    collateral: Annotated[
        Literal["online", "offline"],
        Field(description="Fetch what judging evidence takes from the vendors, or read the cache only."),
    ] = "online"
    collateral_dir: Annotated[Path, Field(description="Cache of certificates, lists and golden values.")] = (
        _in_home("collateral")
    )
    intel_pcs_url: Annotated[
        str | None, Field(description="A PCCS to ask instead of Intel's own service; https, or loopback.")
    ] = None
    recheck_interval_s: float = _seconds(
        900, description="How often a live verdict's evidence is judged again under what vendors say by then."
    )
    use_environment_proxies: Annotated[
        bool, Field(description="Ask vendors through the proxies that the environment names.")
    ] = False
    allow_mock: Annotated[
        bool, Field(description="Let policies send to a mock runtime, which protects nothing.")
    ] = False
    padding: Annotated[
        Literal["none", "bucket"], Field(description="How the sizes of sealed requests are blurred.")
    ] = "bucket"
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=8 * 1024 * 1024, description="Longest request body that is accepted.")
    ] = 4 * 1024 * 1024
    connect_timeout_s: float = _seconds(5, description="Longest wait for a connection to the runtime.")
    first_token_timeout_s: float = _seconds(120, description="Longest wait for an answer to begin.")
    idle_timeout_s: float = _seconds(60, description="Longest silence within an answer.")
    answer_timeout_s: float = _seconds(900, description="Longest time for a whole answer.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load_settings`` merged, so that ``explain`` can say where each value came from."""
        return (init_settings,)

    @field_validator("*", mode="after")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        """A path that depends on the folder a command is started in would be two settings under one name."""
        return value.expanduser().absolute() if isinstance(value, Path) else value

    @field_validator("runtime_url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("not an http:// or https:// address")
        if parts.username is not None or parts.password is not None:
            raise ValueError("an address must not hold a user or a password")
        if parts.query or parts.fragment:
            raise ValueError("an address of a runtime has no query and no fragment")
        return value.rstrip("/")


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as ``sealgate config explain`` shows it."""

    name: str
    value: str
    source: str
    description: str


def load_settings(flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force.

    Args:
        flags: settings from the command line, by name.

    Raises:
        SettingsError: any of them is wrong or unknown, or the file cannot be read.
    """
    return _load(flags or {})[0]


def explain(flags: Mapping[str, Any] | None = None) -> list[SettingRow]:
    """Every setting with its value and where that came from.

    Args:
        flags: as in ``load_settings``.

    Raises:
        SettingsError: as ``load_settings``.
    """
    settings, origins = _load(flags or {})
    return [
        SettingRow(
            name, _shown(getattr(settings, name)), origins.get(name, "default"), field.description or ""
        )
        for name, field in Settings.model_fields.items()
    ]


def home() -> Path:
    """``$SEALGATE_HOME``, by default ``~/.local/share/sealgate``. It need not exist yet."""
    configured = os.environ.get(f"{PREFIX}HOME")
    return Path(configured).expanduser() if configured else Path.home() / ".local" / "share" / "sealgate"


def _load(flags: Mapping[str, Any]) -> tuple[Settings, dict[str, str]]:
    config = Path(flags.get("home") or home()).expanduser() / "config.toml"
    sources = (
        (f"file {config}", _from_file(config)),
        ("environment", EnvSettingsSource(Settings)()),
        ("flag", flags),
    )
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, found in sources:
        values.update(found)
        for name in found:
            origins[name] = f"{origin} {PREFIX}{name.upper()}" if origin == "environment" else origin
    try:
        return Settings(**values), origins
    except ValidationError as error:
        raise SettingsError(_problems(error, origins)) from None  # its text quotes the values


def _from_file(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
        if len(data) > _MAX_CONFIG_BYTES:
            raise SettingsError([f"{path}: longer than {_MAX_CONFIG_BYTES} bytes"])
        document = tomllib.loads(data.decode("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from error
    except ValueError as error:
        raise SettingsError([f"{path}: not TOML: {error}"]) from error
    unknown = document.keys() - _OTHER_TABLES - {TABLE}
    if unknown:
        raise SettingsError([f"{path}: unknown {sorted(unknown)}; settings go under [{TABLE}]"])
    table = document.get(TABLE, {})
    if not isinstance(table, dict):
        raise SettingsError([f"{path}: [{TABLE}] is not a table"])
    if "home" in table:
        raise SettingsError([f"{path}: home cannot be set in a file that lies in it"])
    return table


def _problems(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    problems = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        if item["type"] == "default_factory_not_called":
            continue  # a consequence of another problem
        name = ".".join(str(part) for part in item["loc"])
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            what = "unknown setting"
        problems.append(f"{name} ({origins.get(name, 'default')}): {what}")
    return problems


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)
