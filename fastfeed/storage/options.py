"""How one origin is reached, and what it is allowed to cost: named options, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fastfeed.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginOptions:
    """Options of one origin. Credentials that are not given are found as the cloud's own tools find them: in the
    environment, in the machine's or pod's identity. docs/origins.md says which, and has every option with an example.

    endpoint: the address of an S3-compatible service, an emulator or a gateway.
    anonymous: requests are not signed.
    access_key_id, secret_access_key, session_token: of S3; for Azure the account's name, its key, and a SAS token; for
        GCS the session token is an access token.
    credentials_file: for S3 a file as ~/.aws/credentials, of which `profile` is read, again when it has changed;
        for GCS the JSON file of a service account.
    allow_http: http:// endpoints are accepted for S3, GCS and Azure (a URL that says http:// needs no leave).
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    profile: str = "default"
    allow_http: bool = False
    # Attempts after the first. 8 with the waits below are about 25 s: longer than a front end takes to be replaced.
    retries_max: int = 8
    # An attempt has failed when so long nothing came: a connection, an answer, the next line of a listing.
    timeout_s: float = 20.0
    # An attempt may take the timeout and the time that its bytes need at this rate: a trickle is given up for another
    # connection. All requests in flight share a line: 32 of them at 128 KiB/s are a line of 4 MiB/s, which must not be
    # taken for a trickle.
    slow_bytes_per_s: int = 128 << 10
    # All attempts of one request together, from when the first begins.
    deadline_s: float = 90.0
    # The wait before the first retry; each next is twice as long, up to the longest, and random in its upper half.
    backoff_s: float = 0.1
    backoff_s_max: float = 8.0
    # Retries of all requests together: a thousand that wait for a dead origin do not ask it a thousand times a second.
    retries_per_s: float = 50.0
    in_flight_max: int = 32
    bytes_per_s_max: int | None = None

    def __post_init__(self) -> None:
        for name in ("timeout_s", "deadline_s", "retries_per_s", "slow_bytes_per_s", "in_flight_max"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)!r}: it must be more than 0.")
        for name in ("retries_max", "backoff_s", "backoff_s_max"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)!r}: it must be 0 or more.")
        if self.bytes_per_s_max is not None and self.bytes_per_s_max <= 0:
            raise ConfigError(f"bytes_per_s_max={self.bytes_per_s_max!r}: it must be more than 0, or None: no limit.")
        if self.anonymous and (self.access_key_id or self.credentials_file or self.session_token):
            raise ConfigError("anonymous requests are not signed: give no credentials with anonymous=True.")
        if bool(self.access_key_id) != bool(self.secret_access_key) and not self.session_token:
            raise ConfigError("access_key_id and secret_access_key belong together: give both, or neither.")
