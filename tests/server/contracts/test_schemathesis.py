"""Schemathesis sends requests that docs/openapi.json allows, and many that it does not, to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
)

from benchmarks.server.subject import own_server
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.waiting import LONG_S

EXAMPLES = 10  # of each operation
schemathesis.serializer.alias(["application/sdp", "application/trickle-ice-sdpfrag"], "text/plain")
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, unsupported_method]


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with own_server([*FAKE_OPTIONS, "--prompt", "a red ball", "--client-sessions", "0"]) as server:
        yield server.target.base


@pytest.fixture(scope="module")
def api(base: str) -> schemathesis.BaseSchema:
    document = httpx.get(f"{base}openapi.json", trust_env=False, timeout=LONG_S).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=base.rstrip("/"))
    return schema


@pytest.mark.slow
def test_the_server_keeps_to_its_contract(api: schemathesis.BaseSchema) -> None:
    operations = [found.ok() for found in api.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 15
    for operation in operations:
        examine(operation)


def examine(operation: schemathesis.APIOperation[Any, Any, Any, Any]) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def keeps(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS)

    keeps()
