"""Settings of the server, its worker and its media: frozen dataclasses, validated when they are created.

They are picklable, since the worker may be another process. No files, no environment, no argparse here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from engine.config import RuntimeConfig
from engine.errors import InvalidInput
from engine.wire.fields import MAX_SEED
from server.codecs import CODECS, Codec
from server.keys import check_key
from server.ladder import Rung, ladder
from server.storage import StorageConfig

Placement = Literal["process", "thread", "remote"]
SMALL_PIXELS = 200 * 200  # a smaller picture is doubled before it is encoded
BITS_PER_PIXEL = 0.12
# the form in which browsers send it; any other form would never match
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
MAX_WORKERS = 64
MIN_BITRATE_BPS, MAX_BITRATE_BPS = 900_000, 4_000_000


@dataclass(frozen=True)
class MediaConfig:
    """How frames become packets. A `bitrate_bps` of None and an `upscale` of 0 mean that the picture's size
    determines the value. `bitrate_bps` is the rate of the top rung, so no viewer gets more."""

    bitrate_bps: int | None = None
    upscale: int = 0
    codecs: tuple[Codec, ...] = CODECS  # that viewers may be sent
    hardware: bool = True  # H.264 by an encoder in hardware, where there is one that works
    keyframe_gap_s: float = 0.4  # requests closer than this share one keyframe
    still_after_s: float = 1.0  # with nothing new to show, the last frame is sent again after this long
    late_limit_s: float = 0.25  # a frame later than this is dropped
    queue_segments: int = 8  # per session; overflow drops the oldest segment

    def __post_init__(self) -> None:
        if self.bitrate_bps is not None and not 50_000 <= self.bitrate_bps <= 50_000_000:
            raise InvalidInput(
                "--bitrate must be between 50 and 50000 kb/s; leave it out to let psistream choose",
                field="bitrate",
            )
        if not self.codecs:
            raise InvalidInput(f"--codecs needs at least one of {', '.join(CODECS)}", field="codecs")
        if self.upscale not in (0, 1, 2, 3, 4):
            raise InvalidInput("upscale must be 1 to 4, or 0 to let psistream choose", field="upscale")

    def scale(self, width: int, height: int) -> int:
        """The factor by which pictures are enlarged before encoding. All codecs halve the resolution of
        colour; that is visible at 160x96, so small pictures are doubled."""
        return self.upscale or (2 if width * height < SMALL_PIXELS else 1)

    def bitrate(self, width: int, height: int, fps: int) -> int:
        """Bit rate for a picture encoded at this size. It is generous: small pictures are nearly lossless."""
        wanted = int(width * height * fps * BITS_PER_PIXEL)
        return self.bitrate_bps or max(MIN_BITRATE_BPS, min(MAX_BITRATE_BPS, wanted))

    def ladder(self, width: int, height: int, fps: int) -> tuple[Rung, ...]:
        """The rungs of a session whose model generates pictures of this size."""
        scale = self.scale(width, height)
        width, height = width * scale, height * scale
        return ladder(self.bitrate(width, height, fps), width, height, fps)


@dataclass(frozen=True)
class LogConfig:
    """How every process of the server writes its log."""

    kind: Literal["text", "json"] = "text"
    level: str = "WARNING"


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to load its model and run."""

    backend: str = "onnxruntime"
    model: str | None = None  # a name, or an exported model's folder; None: the built-in model
    weights: Path | None = None  # folder of a full-size model
    gpu: str | None = None  # the only visible GPU, in the form of CUDA_VISIBLE_DEVICES; None: all are visible
    image: Path | None = None  # start image of sessions that are opened without one
    video: Path | None = None  # or a clip that they continue
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    media: MediaConfig = field(default_factory=MediaConfig)
    log: LogConfig = field(default_factory=LogConfig)


@dataclass(frozen=True)
class IceServer:
    """A STUN or TURN server as --ice-server gives it: [user:password@]scheme:host:port."""

    url: str
    username: str | None = None
    credential: str | None = None

    @classmethod
    def parse(cls, text: str) -> IceServer:
        scheme, colon, rest = text.partition(":")
        if scheme not in ("stun", "turn", "turns") or not colon or not rest:
            raise InvalidInput(
                "--ice-server must look like stun:host:3478 or turn:user:password@host:3478",
                field="ice_server",
            )
        credentials, at, address = rest.rpartition("@")
        if not at:
            return cls(url=text)
        username, _, password = credentials.partition(":")
        return cls(url=f"{scheme}:{address}", username=username, credential=password)


@dataclass(frozen=True)
class MqttListen:
    """Where the embedded broker listens, and who may connect. If a port is taken, a free one is used."""

    host: str = "127.0.0.1"
    port: int = 1883
    websocket_port: int | None = 9001  # None: no WebSockets
    tls: tuple[Path, Path] | None = None  # PEM files: certificate with its chain, key
    user: tuple[str, str] | None = field(default=None, repr=False)  # name, password; None: no password


@dataclass(frozen=True)
class MqttOptions:
    """MQTT settings other than the broker's address."""

    node: str | None = None  # this server's name in topics; None: the host's name and a persistent id
    prefix: str = "psistream/v1"  # prefix of all topics
    discovery: str | None = None  # "homeassistant" publishes its discovery messages
    access: Literal["open", "token"] = "open"  # token: steering needs the session's token
    listen: MqttListen = field(default_factory=MqttListen)


def check_whip(url: str, name: str = "whip") -> None:
    """Raises InvalidInput for a URL that the video cannot be pushed to."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise InvalidInput(f"{name} must be an http or https URL, not {url[:80]!r}", field="whip")
    if parts.username or parts.password:
        raise InvalidInput(
            f"{name} must not contain a user name or a password: use --whip-token", field="whip"
        )


def parse_ports(text: str) -> tuple[int, int]:
    """Parse the value of --udp-ports, such as 40000-40100. Raises InvalidInput."""
    first, dash, last = text.partition("-")
    if first.isdecimal() and (last.isdecimal() or not dash):
        ports = int(first), int(last or first)
        if 1024 <= ports[0] <= ports[1] <= 65535:
            return ports
    raise InvalidInput(
        f"--udp-ports must look like 40000-40100, from 1024 to 65535, not {text!r:.40}", field="udp_ports"
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class ServerConfig:
    """All settings of `psistream serve`."""

    host: str = "127.0.0.1"
    port: int = 8080
    ops_port: int | None = None  # a separate port for health and metrics
    ops_host: str = "127.0.0.1"
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    placement: Placement = "process"
    workers: int = 1
    remotes: tuple[str, ...] = ()  # addresses of workers, as tcp://HOST:PORT; then there are no others
    worker_key: bytes = field(default=b"", repr=False)  # of workers that listen, and of the directory
    worker_ca: Path | None = None  # who signed their certificates; None: the system knows
    join: str | None = None  # the directory that says where workers are, as tcp://HOST:PORT
    name: str = ""  # this gateway's name there, which starts the ids of its sessions
    advertise: str = ""  # where other gateways reach it, as http://HOST:PORT
    devices: tuple[str, ...] = ()  # GPUs, assigned to workers in turn; empty: each worker sees all
    mqtt: str = "embedded"  # embedded | off | mqtt://user:password@host:1883
    mqtt_options: MqttOptions = field(default_factory=MqttOptions)
    prompt: str = "a blue robot walks right through a sunny meadow"  # of session `main`
    seed: int | None = None
    root_path: str = ""  # the path under which a proxy serves psistream, such as /video
    # None: generated at startup, if other machines can reach the server and there is no key file
    api_key: str | None = None
    api_keys: Path | None = None  # a file of several keys with names
    origins: tuple[str, ...] = ()  # other sites whose pages may call the server; "*" means any
    ice_servers: tuple[IceServer, ...] = ()
    udp_ports: tuple[int, int] | None = None  # for the video, first and last; None: any
    public_addresses: tuple[str, ...] = ()  # of the router or container host that forwards those ports
    whip: str | None = None  # the media server to which session `main` is pushed
    whip_token: str | None = None
    max_viewers: int = 256  # a viewer costs about 2 ms of a core per second, so 256 cost half a core
    viewer_timeout_s: float = 30.0  # a viewer that sends nothing for this long is disconnected
    controls_per_s: float = 60.0  # over HTTP, per token and per session
    # a session (other than main) that nobody watches or steers for this long is closed
    session_idle_s: float = 900.0
    client_sessions: int = 16  # concurrent sessions per client; 0: no limit
    client_device_s: float = 0.0  # seconds of device time per minute and client; 0: no limit
    # minimum seconds between two snapshots of a session, which are used for failover; 0: no snapshots
    snapshot_every_s: float = 0.4
    storage: StorageConfig | None = None  # where sessions are kept beyond gateway and workers
    spare: Literal["auto", "on", "off"] = "auto"  # keep a second worker loaded; auto: if memory allows
    hang_limit_s: float = 30.0  # a worker whose device call takes longer is replaced
    restart_limit: int = 5  # consecutive restarts of a worker before the server gives up

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidInput(f"--port must be between 0 and 65535, not {self.port}", field="port")
        if self.ops_port is not None and not 0 <= self.ops_port <= 65535:
            raise InvalidInput(
                f"--ops-port must be between 0 and 65535, not {self.ops_port}", field="ops_port"
            )
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InvalidInput(f"--seed must be between 0 and {MAX_SEED}, not {self.seed}", field="seed")
        if self.api_key is not None:
            check_key(self.api_key, "--api-key")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InvalidInput(
                f"--workers must be auto or 1 to {MAX_WORKERS}, not {self.workers}", field="workers"
            )
        if self.max_viewers < 1:
            raise InvalidInput("--max-viewers must be at least 1", field="max_viewers")
        for origin in self.origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise InvalidInput(
                    f"--allow-origin must look like https://video.example or http://10.0.0.7:3000, in lower "
                    f"case and without a path, or be *, not {origin!r:.80}",
                    field="origins",
                )
        for name in ("client_sessions", "client_device_s", "snapshot_every_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidInput(f"--{name.replace('_', '-')} must be 0 or a positive number", field=name)

        if self.whip is not None:
            check_whip(self.whip, "--whip")
        for address in self.public_addresses:
            if not _is_address(address):
                raise InvalidInput(
                    f"--public-address must be an IP address such as 203.0.113.7, not {address!r:.60}",
                    field="public_addresses",
                )

    @property
    def media_addresses(self) -> tuple[str, ...] | None:
        """The addresses that video may be sent from: the one that the server listens on, so that a server on
        loopback stays unreachable from outside. None means all interfaces, also if `public_addresses` says
        that clients come through a proxy."""
        if self.public_addresses:
            return None
        if self.host == "localhost":
            return "127.0.0.1", "::1"
        if not _is_address(self.host) or ipaddress.ip_address(self.host).is_unspecified:
            return None
        return (self.host,)

    @property
    def keeps_spare(self) -> bool | None:
        """Whether to keep a spare worker; None means if memory allows. Several workers need none, since they
        take over from each other. GPU memory is unknown here, so `auto` keeps no spare on a GPU."""
        if self.placement == "remote":
            return False
        alone = self.workers == 1 and self.placement == "process"
        if self.spare == "auto" and alone and self.worker.backend == "onnxruntime":
            return None
        return self.spare == "on"

    @property
    def trusts_machine(self) -> bool:
        """Whether everybody who can reach the server may open sessions and steer `main`. A key on loopback
        means that clients come through a proxy."""
        return self.loopback and not (self.api_key or self.api_keys)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        return _is_address(self.host) and ipaddress.ip_address(self.host).is_loopback
