"""The OpenAPI document against the server: no 5xx, and no answer that it does not tell of."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.volvox.serving.running_server import RunningServer

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


@pytest.mark.parametrize("examples", [20, pytest.param(500, marks=pytest.mark.soak)], ids=["some", "many"])
def test_every_answer_is_one_that_the_document_tells_of(server: RunningServer, examples: int) -> None:
    for name, module in (("tiny", "tiny"), ("plain", "tiny-plain")):
        assert server.deploy("1", name=name, module=module).status_code == 201
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [told.ok() for told in document.get_all_operations()]
    assert {operation.path for operation in operations} > {"/v2/models/", "/v2/models/tiny/predict/", "/v2/jobs/"}
    wrong = []
    for operation in operations:

        @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS)

        try:
            ask()
        except BaseExceptionGroup as failures:
            wrong.append(f"{operation.method.upper()} {operation.path}: {failures.exceptions}\n{failures}")
    if wrong:
        pytest.fail("\n\n".join(wrong), pytrace=False)
