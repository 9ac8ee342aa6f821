"""How Ray must be started for psistream, and what of it can be checked from outside.

Ray's defaults notice a silent host after 20 to 70 s, let processes end a minute after the head is gone, and
let everybody in who reaches the head's port.
"""

from __future__ import annotations

from collections.abc import Mapping

NOTICE = {  # a silent host is dead after 1 + 3 × (1 + 2) s at the latest
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
OUTLIVE = {"RAY_gcs_rpc_server_reconnect_timeout_s": "300"}  # hosts wait so long for a new head
TOKEN = {"RAY_AUTH_MODE": "token"}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}

NAMES = (*NOTICE, *OUTLIVE)


def environment(*, redis: str | None = None) -> dict[str, str]:
    """For `ray start`, on each host. `redis` (HOST:PORT) is for the head: its tables outlive it there."""
    store = {} if redis is None else {"RAY_REDIS_ADDRESS": redis}
    return {**NOTICE, **OUTLIVE, **TOKEN, **QUIET, **store}


def warnings(head: Mapping[str, str | None]) -> list[str]:
    """What differs in the environment of Ray's head, in words for an operator."""
    slower = [name for name, wanted in NOTICE.items() if not _at_most(head.get(name), wanted)]
    told = []
    if slower:
        told.append(
            "Ray's head may take more than a minute to notice a lost host: start it with "
            f"{', '.join(slower)} set as `psistream cluster ray` does"
        )
    if not _at_least(head.get("RAY_gcs_rpc_server_reconnect_timeout_s"), "300"):
        told.append(
            "Ray's hosts end their workers a minute after the head is gone: start Ray on all hosts with "
            "RAY_gcs_rpc_server_reconnect_timeout_s=300, as `psistream cluster ray` does"
        )
    if not head.get("RAY_REDIS_ADDRESS") and head.get("RAY_gcs_storage") != "rocksdb":
        told.append("Ray's head has no store: if it ends, so do all workers (RAY_REDIS_ADDRESS)")
    return told


def _at_most(value: str | None, wanted: str) -> bool:
    return value is not None and value.isdigit() and int(value) <= int(wanted)


def _at_least(value: str | None, wanted: str) -> bool:
    return value is not None and value.isdigit() and int(value) >= int(wanted)
