from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deployments.checks.ecs import ended
from tests.deployments.checks.conftest import define, made, up
from volvox.settings import Home

# Error bodies in the form of AWS's query and JSON protocols, with the codes that it documents.
QUERY = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>
  <RequestId>8f0d3f5a-7c0d-4f4e-9a55-6a2f4b1f4a11</RequestId>
</ErrorResponse>"""
EXPIRED = "The security token included in the request is expired"
UNKNOWN = "The security token included in the request is invalid."
WHO = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
  <Arn>arn:aws:iam::123456789012:user/me</Arn><UserId>A</UserId><Account>123456789012</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""
DENIED = (
    '{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::123456789012:user/me is not authorized to '
    'perform: ecs:DescribeClusters because no identity-based policy allows the ecs:DescribeClusters action"}'
)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        operation = self.headers.get("X-Amz-Target") or body
        server: Any = self.server
        status, answer = next((told for word, told in server.answers.items() if word in operation), (404, "{}"))
        content = answer.encode()
        self.send_response(status)
        json_protocol = "X-Amz-Target" in self.headers
        self.send_header("Content-Type", "application/x-amz-json-1.1" if json_protocol else "text/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, home: Home, no_services) -> Iterator[Any]:
    """An endpoint that answers with AWS's error bodies."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers = {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    define(home, "ecs", "{type: ecs, image: '127.0.0.1:9/x:1'}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "code", "message", "said", "mend"),
    [
        (403, "ExpiredToken", EXPIRED, "have expired", "aws sso login"),
        (403, "InvalidClientTokenId", UNKNOWN, "does not know this access key", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "The request signature we calculated does not match", "does not belong",
         "AWS_SECRET_ACCESS_KEY"),
    ],
)  # fmt: skip
def test_credentials_that_aws_refuses_are_told_as_what_they_are(
    aws, home: Home, status: int, code: str, message: str, said: str, mend: str
) -> None:
    aws.answers = {"GetCallerIdentity": (status, QUERY.format(code=code, message=message))}
    found = made("ecs", home)
    check = found["credentials"]
    assert check.ok is False
    assert said in check.said
    assert mend in check.mend
    assert "hunter2" not in str(check)
    assert "cluster" not in found, "nothing else can be asked"


def test_a_right_that_is_missing_is_unknown_and_names_what_to_allow(aws, home: Home) -> None:
    aws.answers = {"GetCallerIdentity": (200, WHO), "DescribeClusters": (400, DENIED)}
    found = made("ecs", home, probe=False)
    assert found["credentials"].ok is True
    assert "arn:aws:iam::123456789012:user/me" in found["credentials"].said
    assert found["cluster"].ok is None
    assert "ecs:DescribeClusters" in found["cluster"].mend


def test_no_credentials_at_all_are_told(home: Home, no_services, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    define(home, "ecs", "{type: ecs, image: x}")
    check = made("ecs", home)["credentials"]
    assert check.ok is False
    assert "there are no AWS credentials here" in check.said


def test_an_endpoint_that_does_not_answer_is_not_taken_for_wrong_credentials(
    aws, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    check = made("ecs", home, probe=False)["credentials"]
    assert check.ok is None
    assert "AWS does not answer" in check.said


@pytest.mark.parametrize(
    ("container", "stopped", "name", "said"),
    [
        ({"reason": "CannotPullContainerError: pull access denied"}, "", "image", "cannot pull its image"),
        ({}, "ResourceInitializationError: unable to pull secrets", "probe", "cannot prepare"),
        ({"reason": "OutOfMemoryError: Container killed", "exitCode": 137}, "", "probe", "ran out of memory"),
        ({"exitCode": 127}, "Essential container in task exited", "probe", "exit code 127"),
    ],
)
def test_why_a_task_stopped_is_told(container: dict[str, Any], stopped: str, name: str, said: str) -> None:
    [check] = ended({"containers": [container], "stoppedReason": stopped})
    assert (check.name, check.ok) == (name, False)
    assert said in check.said


def test_the_exit_code_of_a_task_says_what_its_probe_reached() -> None:
    found = {check.name: check.ok for check in ended({"containers": [{"exitCode": 66}]})}
    assert found == {"from inside: prefect": True, "from inside: mlflow": False, "from inside: store": True}


@pytest.mark.aws
class TestEndpoint:
    @pytest.fixture(autouse=True)
    def endpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        up("aws", monkeypatch)
        import boto3

        for queue in boto3.client("sqs").list_queues(QueueNamePrefix="volvox-check").get("QueueUrls", []):
            boto3.client("sqs").delete_queue(QueueUrl=queue)
        # A queue of its own: other tests may need Prefect's, and others again its absence.
        monkeypatch.setenv("PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME", "volvox-check-events")

    @pytest.fixture
    def image(self, endpoint, request: pytest.FixtureRequest) -> str:
        return request.getfixturevalue("probe_image")

    @pytest.fixture
    def cluster(self, endpoint) -> Iterator[str]:
        import boto3

        client = boto3.client("ecs")
        client.create_cluster(clusterName="volvox-check")
        yield "volvox-check"
        assert client.list_tasks(cluster="volvox-check", desiredStatus="RUNNING")["taskArns"] == []
        families = client.list_task_definitions(familyPrefix="volvox-check-ecs", status="ACTIVE")
        client.delete_cluster(cluster="volvox-check")
        assert families["taskDefinitionArns"] == [], "the probe's definition is deregistered"

    def test_what_is_missing_is_named_with_what_makes_it(self, home: Home, image: str, services: str) -> None:
        define(home, "ecs", f"{{type: ecs, image: '{image}', job_variables: {{cluster: absent-cluster, "
                            "task_role_arn: 'arn:aws:iam::123456789012:role/absent'}}")  # fmt: skip
        found = made("ecs", home)
        assert found["credentials"].ok is True
        assert found["cluster"].ok is False
        assert "aws ecs create-cluster --cluster-name absent-cluster" in found["cluster"].mend
        assert found["task role"].ok is False
        assert found["queue"].ok is None, "our worker asks ECS itself"
        assert "prefect-aws ecs-worker deploy-events" in found["queue"].mend
        assert found["image"].ok is True
        assert not any(name.startswith("from inside") for name in found)

    def test_fargate_has_no_gpus(self, home: Home, image: str, cluster: str, services: str) -> None:
        variables = f"{{cluster: {cluster}}}"
        define(home, "ecs", f"{{type: ecs, image: '{image}', offers: {{gpus: 1}}, job_variables: {variables}}}")
        check = made("ecs", home, probe=False)["offers"]
        assert check.ok is False
        assert "Fargate has no GPUs" in check.said

    def test_a_task_tells_by_its_exit_code_what_it_reaches(
        self, home: Home, image: str, cluster: str, services: str
    ) -> None:
        import boto3

        boto3.client("sqs").create_queue(QueueName="volvox-check-events")
        role = boto3.client("iam")
        trust = '{"Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}}]}'
        arn = role.create_role(RoleName="volvox-check", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        try:
            define(home, "ecs", f"{{type: ecs, image: '{image}', offers: {{cpu: 1, memory_mb: 2048, gpus: 0}}, "
                                f"environment: {{VOLVOX_STORE: /tmp}}, job_variables: {{cluster: {cluster}, "
                                f"task_role_arn: '{arn}'}}}}")  # fmt: skip
            found = made("ecs", home)
            assert {name: check.said for name, check in found.items() if check.ok is False} == {}
            assert {"from inside: prefect", "from inside: mlflow", "from inside: store"} <= set(found)
            assert found["task role"].ok is True
            assert found["queue"].ok is True
        finally:
            role.delete_role(RoleName="volvox-check")
