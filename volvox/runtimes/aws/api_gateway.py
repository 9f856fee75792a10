"""An API of API Gateway whose only route calls a Lambda function: what SCAR's `api_gateway` asks for.

    https://ID.execute-api.REGION.amazonaws.com/STAGE/PATH  ->  the alias `live`

The API carries the function's tags, by which it is found again: names of APIs need not be unique. A deployment of it is
made when its route has changed since the last one, whose description says which route it is.
"""

from __future__ import annotations

from typing import Any

from volvox.functions.definition import Function
from volvox.functions.routes import HttpRoute
from volvox.identity import digest_of
from volvox.runtimes.aws.account import FUNCTION, OWNER, is_missing, name_of, tags, told, unless_missing
from volvox.runtimes.aws.lambda_objects import ALIAS, LambdaObjects

STATEMENT = "api"
_MOST = 500  # APIs of one page


class Api:
    """The API of one function."""

    def __init__(self, objects: LambdaObjects, function: Function) -> None:
        """Of the function `function`, in the account of `objects`."""
        self._objects, self._account, self._owner = objects, objects.account, objects.owner
        self._function, self._name = function, name_of(function.name)

    def ensure(self, route: HttpRoute) -> str:
        """The address of the route, made or mended where it is not as it must be.

        Raises:
            InvalidInput: If AWS refuses.
            Unavailable: If it does not answer.
        """
        with told(f"make the API of {self._name}"):
            api = self._found() or self._gateway.create_rest_api(
                name=self._name, description=f"Of the function {self._function.name}, made by Volvox",
                binaryMediaTypes=["*/*"], endpointConfiguration={"types": ["REGIONAL"]},
                tags=tags(self._function.name, self._owner),
            )  # fmt: skip
            at = {"restApiId": str(api["id"])}
            changed = self._routed(at, route)
            source = self._account.arn("execute-api", f"{api['id']}/{route.stage}/*/*")
            self._objects.ensure_permission(self._name, STATEMENT, "apigateway.amazonaws.com", source)
            self._deployed(at, route, changed)
        host = f"{api['id']}.execute-api.{self._account.region}.{_suffix(self._account.partition)}"
        return f"https://{host}/{route.stage}/{'' if '{' in route.path_part else route.path_part}"

    def drift(self, route: HttpRoute) -> str:
        """What is not as `ensure` would have it, in a sentence; empty: nothing."""
        with told(f"look at the API of {self._name}"):
            api = self._found()
            if api is None:
                return f"the API of {self._name} is not there"
            at = {"restApiId": str(api["id"])}
            there = self._resource(at, route.path_part)
            if there is None or self._wrong(at, there["id"], route) or self._stage(at, route) is None:
                return f"the API of {self._name} does not call it as it must"
        return ""

    def remove(self) -> None:
        """Remove the API with all that is in it; nothing if there is none."""
        with told(f"remove the API of {self._name}"):
            if (api := self._found()) is not None:
                with unless_missing():
                    self._gateway.delete_rest_api(restApiId=api["id"])

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _gateway(self) -> Any:
        return self._account.client("apigateway")

    def _found(self) -> dict[str, Any] | None:
        """The API that carries the function's and the owner's tags; without an owner, the function's of any."""
        for page in self._gateway.get_paginator("get_rest_apis").paginate(PaginationConfig={"PageSize": _MOST}):
            for one in page["items"]:
                carried = one.get("tags") or {}
                if carried.get(FUNCTION) == self._function.name and self._owner in ("", carried.get(OWNER)):
                    return one
        return None

    def _resource(self, at: dict[str, str], path_part: str) -> dict[str, Any] | None:
        found = self._gateway.get_resources(**at, limit=_MOST)["items"]
        return next((one for one in found if one["path"] == f"/{path_part}"), None)

    def _routed(self, at: dict[str, str], route: HttpRoute) -> bool:
        """Have the route's method call the function, and no other one; whether something had to be changed."""
        changed = False
        root = self._resource(at, "")
        assert root is not None
        for one in self._gateway.get_resources(**at, limit=_MOST)["items"]:
            if one["path"] not in ("/", f"/{route.path_part}"):
                self._gateway.delete_resource(**at, resourceId=one["id"])
                changed = True
        there = self._resource(at, route.path_part)
        if there is None:
            there = self._gateway.create_resource(**at, parentId=root["id"], pathPart=route.path_part)
        resource = str(there["id"])
        if not self._wrong(at, resource, route):
            return changed
        for method in there.get("resourceMethods") or {}:
            self._gateway.delete_method(**at, resourceId=resource, httpMethod=method)
        method = {**at, "resourceId": resource, "httpMethod": route.method}
        self._gateway.put_method(**method, **self._method(route))
        self._gateway.put_integration(**method, integrationHttpMethod="POST", **self._integration(route))
        return True

    def _wrong(self, at: dict[str, str], resource: str, route: HttpRoute) -> bool:
        """Whether the method of a resource is not there, or not as it must be."""
        from botocore.exceptions import ClientError

        try:
            there = self._gateway.get_method(**at, resourceId=resource, httpMethod=route.method)
        except ClientError as error:
            if is_missing(error):
                return True
            raise
        calls = there.get("methodIntegration") or {}
        method, integration = self._method(route), self._integration(route)
        return any(there.get(name) != value for name, value in method.items()) or any(
            calls.get(name) != value for name, value in integration.items()
        )

    @staticmethod
    def _method(route: HttpRoute) -> dict[str, Any]:
        return {"authorizationType": "NONE" if route.is_open else "AWS_IAM"}

    def _integration(self, route: HttpRoute) -> dict[str, Any]:
        """A proxy: the function gets the whole request, and gives the whole answer."""
        account = self._account
        function = account.arn("lambda", f"function:{self._name}:{ALIAS}")
        path = f"path/2015-03-31/functions/{function}/invocations"
        uri = f"arn:{account.partition}:apigateway:{account.region}:lambda:{path}"
        return {"type": "AWS_PROXY", "uri": uri, "timeoutInMillis": round(route.seconds * 1000)}

    def _stage(self, at: dict[str, str], route: HttpRoute) -> dict[str, Any] | None:
        """The route's stage, if it shows the route as it is now."""
        from botocore.exceptions import ClientError

        try:
            stage = self._gateway.get_stage(**at, stageName=route.stage)
            shown = self._gateway.get_deployment(**at, deploymentId=stage["deploymentId"])
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return stage if shown.get("description") == self._digest(route) else None

    def _deployed(self, at: dict[str, str], route: HttpRoute, changed: bool) -> None:
        """Have the route's stage, and no other one, show it; deployments that nobody shows any more go."""
        if changed or self._stage(at, route) is None:
            self._gateway.create_deployment(**at, stageName=route.stage, description=self._digest(route))
        shown: set[str] = set()
        for stage in self._gateway.get_stages(**at)["item"]:
            if stage["stageName"] == route.stage:
                shown.add(str(stage["deploymentId"]))
            else:
                self._gateway.delete_stage(**at, stageName=stage["stageName"])
        for one in self._gateway.get_deployments(**at, limit=_MOST)["items"]:
            if one["id"] not in shown:
                self._gateway.delete_deployment(**at, deploymentId=one["id"])

    def _digest(self, route: HttpRoute) -> str:
        return digest_of(["api", 1, route.path_part, route.method, self._method(route), self._integration(route)])


def _suffix(partition: str) -> str:
    return "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
