"""APIs of API Gateway by contract: what is asked is checked against Amazon's own models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.volvox.runtimes.aws.contract import ContractAccount, Killed, Refusal, Told
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.routes import HttpRoute, route_of
from volvox.runtimes.aws.api_gateway import STATEMENT, Api
from volvox.runtimes.aws.lambda_objects import LambdaObjects

NAME = "volvox-f"


class Gateway:
    """APIs in memory; a deployment keeps what the API was when it was made."""

    def __init__(self) -> None:
        self.apis: dict[str, dict[str, Any]] = {}
        self.number = 0

    def _new(self) -> str:
        self.number += 1
        return f"id{self.number}"

    def _api(self, name: str) -> dict[str, Any]:
        if name not in self.apis:
            raise Refusal("NotFoundException", status=404)
        return self.apis[name]

    def GetRestApis(self, **_: Any) -> Any:
        return {"items": [{"id": one, **kept["told"]} for one, kept in self.apis.items()]}

    def CreateRestApi(self, **told: Any) -> Any:
        made = self._new()
        root = {"id": self._new(), "path": "/", "methods": {}}
        self.apis[made] = {"told": told, "resources": {root["id"]: root}, "stages": {}, "deployments": {}}
        return {"id": made, **told}

    def DeleteRestApi(self, restApiId: str) -> None:
        self._api(restApiId)
        del self.apis[restApiId]

    def GetResources(self, restApiId: str, limit: int) -> Any:
        assert limit <= 500
        found = self._api(restApiId)["resources"].values()
        told = [{"id": one["id"], "path": one["path"], "resourceMethods": one["methods"]} for one in found]
        return {"items": [{name: value for name, value in one.items() if value} for one in told]}

    def CreateResource(self, restApiId: str, parentId: str, pathPart: str) -> Any:
        resources = self._api(restApiId)["resources"]
        assert resources[parentId]["path"] == "/" and f"/{pathPart}" not in [one["path"] for one in resources.values()]
        made = self._new()
        resources[made] = {"id": made, "path": f"/{pathPart}", "methods": {}}
        return {"id": made, "path": f"/{pathPart}"}

    def DeleteResource(self, restApiId: str, resourceId: str) -> None:
        del self._api(restApiId)["resources"][resourceId]

    def GetMethod(self, restApiId: str, resourceId: str, httpMethod: str) -> Any:
        methods = self._api(restApiId)["resources"][resourceId]["methods"]
        if httpMethod not in methods:
            raise Refusal("NotFoundException", status=404)
        return methods[httpMethod]

    def PutMethod(self, restApiId: str, resourceId: str, httpMethod: str, **told: Any) -> Any:
        methods = self._api(restApiId)["resources"][resourceId]["methods"]
        if httpMethod in methods:
            raise Refusal("ConflictException", status=409)
        methods[httpMethod] = {"httpMethod": httpMethod, **told}
        return methods[httpMethod]

    def DeleteMethod(self, restApiId: str, resourceId: str, httpMethod: str) -> None:
        del self._api(restApiId)["resources"][resourceId]["methods"][httpMethod]

    def PutIntegration(
        self, restApiId: str, resourceId: str, httpMethod: str, integrationHttpMethod: str, **told: Any
    ) -> Any:
        assert integrationHttpMethod == "POST", "Lambda is called by POST, whatever the request's method is"
        self._api(restApiId)["resources"][resourceId]["methods"][httpMethod]["methodIntegration"] = told
        return told

    def CreateDeployment(self, restApiId: str, stageName: str, description: str) -> Any:
        api, made = self._api(restApiId), self._new()
        assert any(
            one.get("methodIntegration") for kept in api["resources"].values() for one in kept["methods"].values()
        )
        api["deployments"][made] = {"id": made, "description": description}
        api["stages"][stageName] = {"stageName": stageName, "deploymentId": made}
        return {"id": made}

    def GetStage(self, restApiId: str, stageName: str) -> Any:
        stages = self._api(restApiId)["stages"]
        if stageName not in stages:
            raise Refusal("NotFoundException", status=404)
        return stages[stageName]

    def GetStages(self, restApiId: str) -> Any:
        return {"item": [*self._api(restApiId)["stages"].values()]}

    def DeleteStage(self, restApiId: str, stageName: str) -> None:
        del self._api(restApiId)["stages"][stageName]

    def GetDeployment(self, restApiId: str, deploymentId: str) -> Any:
        return self._api(restApiId)["deployments"][deploymentId]

    def GetDeployments(self, restApiId: str, limit: int) -> Any:
        return {"items": [*self._api(restApiId)["deployments"].values()]}

    def DeleteDeployment(self, restApiId: str, deploymentId: str) -> None:
        api = self._api(restApiId)
        assert deploymentId not in [one["deploymentId"] for one in api["stages"].values()]
        del api["deployments"][deploymentId]


class Permissions:
    """Who may call the alias of a Lambda function."""

    def __init__(self) -> None:
        self.statements: dict[str, dict[str, Any]] = {}

    def GetPolicy(self, FunctionName: str, Qualifier: str) -> Any:
        assert (FunctionName, Qualifier) == (NAME, "live")
        if not self.statements:
            raise Refusal("ResourceNotFoundException", status=404)
        return {"Policy": json.dumps({"Statement": [*self.statements.values()]})}

    def AddPermission(self, StatementId: str, Principal: str, SourceArn: str, **_: Any) -> Any:
        assert StatementId not in self.statements
        self.statements[StatementId] = {"Sid": StatementId, "Principal": Principal, "SourceArn": SourceArn}
        return {"Statement": "{}"}

    def RemovePermission(self, StatementId: str, **_: Any) -> None:
        if StatementId not in self.statements:
            raise Refusal("ResourceNotFoundException", status=404)
        del self.statements[StatementId]


class Cloud:
    def __init__(self) -> None:
        self.told, self.gateway, self.permissions = Told(), Gateway(), Permissions()
        self.account = ContractAccount(self.told, apigateway=self.gateway, **{"lambda": self.permissions})

    def api(self, owner: str = "me") -> Api:
        return Api(LambdaObjects(self.account, owner), function())

    def only(self) -> dict[str, Any]:
        (found,) = self.gateway.apis.values()
        return found


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def function(**gateway: Any) -> Function:
    settings = {"api_gateway": {"name": "api", **gateway}} if gateway.pop("present", True) else {}
    return Function.model_validate(
        {"name": "f", "image": "i", "script": "x", "runtime": "lambda", "settings": settings}
    )


def route(**gateway: Any) -> HttpRoute:
    found = route_of(function(**gateway))
    assert found is not None
    return found


def test_an_api_is_made_once_tagged_and_found_again(cloud: Cloud) -> None:
    url = cloud.api().ensure(route())
    (api,) = cloud.gateway.apis
    assert url == f"https://{api}.execute-api.eu-west-1.amazonaws.com/scar/"
    assert [name.partition(".")[2] for name in cloud.told.names] == [
        "CreateRestApi", "CreateResource", "PutMethod", "PutIntegration", "AddPermission", "CreateDeployment",
    ]  # fmt: skip
    told = cloud.only()["told"]
    assert (told["tags"]["volvox:function"], told["tags"]["volvox:owner"]) == ("f", "me")
    assert told["binaryMediaTypes"] == ["*/*"]  # so that pictures come and go as they are
    method = next(one for one in cloud.only()["resources"].values() if one["path"] == "/{proxy+}")["methods"]["ANY"]
    assert method["authorizationType"] == "AWS_IAM"
    assert method["methodIntegration"]["type"] == "AWS_PROXY"
    assert method["methodIntegration"]["timeoutInMillis"] == 29_000
    assert ":function:volvox-f:live/invocations" in method["methodIntegration"]["uri"]
    allowed = cloud.permissions.statements[STATEMENT]
    assert allowed["Principal"] == "apigateway.amazonaws.com"
    assert allowed["SourceArn"] == f"arn:aws:execute-api:eu-west-1:123456789012:{api}/scar/*/*"
    cloud.told.writes.clear()
    assert cloud.api().ensure(route()) == url and cloud.told.writes == []
    assert cloud.api().drift(route()) == ""


def test_what_the_file_says_of_it_counts_and_a_change_is_deployed(cloud: Cloud) -> None:
    cloud.api().ensure(route())
    told = {
        "http_method": "post", "stage_name": "prod", "path_part": "ask", "method": {"authorizationType": "none"},
        "integration": {"timeoutInMillis": 5000},
    }  # fmt: skip
    url = cloud.api().ensure(route(**told))
    assert url.endswith("/prod/ask")
    resources = [one for one in cloud.only()["resources"].values() if one["path"] != "/"]
    assert [one["path"] for one in resources] == ["/ask"] and [*resources[0]["methods"]] == ["POST"]
    assert resources[0]["methods"]["POST"]["authorizationType"] == "NONE"
    assert resources[0]["methods"]["POST"]["methodIntegration"]["timeoutInMillis"] == 5000
    assert [*cloud.only()["stages"]] == ["prod"] and len(cloud.only()["deployments"]) == 1
    assert "/prod/" in cloud.permissions.statements[STATEMENT]["SourceArn"]


def test_what_others_changed_is_told_and_mended(cloud: Cloud) -> None:
    assert "is not there" in cloud.api().drift(route())
    cloud.api().ensure(route())
    method = next(one for one in cloud.only()["resources"].values() if one["path"] == "/{proxy+}")["methods"]
    method["ANY"]["authorizationType"] = "NONE"
    assert "does not call it as it must" in cloud.api().drift(route())
    assert "does not call it" in cloud.api(owner="").drift(route()), "checks do not know the owner"
    cloud.api().ensure(route())
    assert cloud.api().drift(route()) == ""
    cloud.only()["stages"].clear()
    assert "does not call it as it must" in cloud.api().drift(route())
    cloud.api().ensure(route())
    assert cloud.api().drift(route()) == ""


def test_removing_leaves_nothing_and_what_is_another_s_alone(cloud: Cloud) -> None:
    cloud.api().ensure(route())
    cloud.api("another").ensure(route())
    assert len(cloud.gateway.apis) == 2
    cloud.api().remove()
    assert cloud.only()["told"]["tags"]["volvox:owner"] == "another"
    cloud.told.writes.clear()
    cloud.api().remove()
    assert cloud.told.writes == []
    objects = LambdaObjects(cloud.account, "me")
    objects.remove_permission(NAME, STATEMENT)
    objects.remove_permission(NAME, STATEMENT)
    assert cloud.permissions.statements == {} and cloud.told.names == ["lambda.RemovePermission"]


def test_killed_at_any_write_and_run_again_it_is_complete_and_nothing_is_orphaned() -> None:
    for before in (None, route(http_method="GET", stage_name="old", path_part="old")):
        number = 0
        while True:
            number += 1
            cloud = Cloud()
            if before:
                cloud.api().ensure(before)
                cloud.told.writes.clear()
            cloud.told.dies_at = number
            try:
                cloud.api().ensure(route())
            except Killed:
                cloud.told.dies_at = 0
                cloud.api().ensure(route())
                assert cloud.api().drift(route()) == ""
                assert [*cloud.only()["stages"]] == ["scar"] and len(cloud.only()["deployments"]) == 1, number
                assert sorted(one["path"] for one in cloud.only()["resources"].values()) == ["/", "/{proxy+}"]
                cloud.told.writes.clear()
                cloud.api().ensure(route())
                assert cloud.told.writes == []
                continue
            break
        assert number > 5


def test_a_route_that_cannot_be_is_refused_with_what_is_allowed() -> None:
    assert route_of(function(present=False)) is None
    with pytest.raises(InvalidInput, match=r"one part of a path"):
        route(path_part="a/b")
    for wrong in (49, 29_001, "soon"):
        with pytest.raises(InvalidInput, match=r"give 50 to 29,000"):
            route(integration={"timeoutInMillis": wrong})
    found = route(path_part="ask", http_method="PUT")
    assert found.leads("ask") and not found.leads("else") and found.takes("PUT") and not found.takes("GET")
    assert route().leads("a/b") and not route().leads("") and route().takes("DELETE")
