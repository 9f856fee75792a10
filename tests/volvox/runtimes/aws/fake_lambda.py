"""Lambda functions in memory: what is there is looked at by the tests, and a call may be the last one."""

from __future__ import annotations

import copy
from typing import Any

from botocore.exceptions import ClientError


class Killed(BaseException):
    """The process ended at this call."""


def missing(operation: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": "ResourceNotFoundException", "Message": "no such thing"},
         "ResponseMetadata": {"HTTPStatusCode": 404}}, operation,
    )  # fmt: skip


class FakeLambda:
    """As boto3's client, as far as it is used.

    Attributes:
        functions: name -> the function, with `versions` and `aliases`.
        writes: Names of the calls that changed something.
        dies_at: The process ends before the write of this number, counted from 1; 0: never.
    """

    def __init__(self) -> None:
        self.functions: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.dies_at = 0

    def _write(self, name: str) -> None:
        if len(self.writes) + 1 == self.dies_at:
            raise Killed
        self.writes.append(name)

    def _get(self, name: str, operation: str) -> dict[str, Any]:
        if name not in self.functions:
            raise missing(operation)
        return self.functions[name]

    def create_function(self, FunctionName, Code, Tags, Architectures, **more):
        self._write("create_function")
        assert FunctionName not in self.functions and more["PackageType"] == "Image" and not more.pop("Publish")
        kept = {"Configuration": {"Architectures": Architectures, **more}, "Code": Code, "Tags": Tags}
        self.functions[FunctionName] = {"latest": kept, "versions": {}, "aliases": {}, "next": 1, "changed": True}

    def get_function(self, FunctionName):
        return copy.deepcopy(self._get(FunctionName, "GetFunction")["latest"])

    def get_function_configuration(self, FunctionName, Qualifier=""):
        found = self._get(FunctionName, "GetFunctionConfiguration")
        if Qualifier and Qualifier not in found["versions"]:
            raise missing("GetFunctionConfiguration")
        return {"State": "Active", "LastUpdateStatus": "Successful"}

    def update_function_code(self, FunctionName, ImageUri, Architectures, Publish):
        self._write("update_function_code")
        latest = self._get(FunctionName, "UpdateFunctionCode")
        latest["latest"]["Code"]["ImageUri"] = ImageUri
        latest["latest"]["Configuration"]["Architectures"] = Architectures
        latest["changed"] = True

    def update_function_configuration(self, FunctionName, **more):
        self._write("update_function_configuration")
        found = self._get(FunctionName, "UpdateFunctionConfiguration")
        found["latest"]["Configuration"].update(more)
        found["changed"] = True

    def publish_version(self, FunctionName, Description):
        self._write("publish_version")
        found = self._get(FunctionName, "PublishVersion")
        if not found["changed"]:  # as Lambda: what has not changed is the version of before
            return {"Version": str(found["next"] - 1)}
        version = str(found["next"])
        found["versions"][version] = {"Description": Description, **copy.deepcopy(found["latest"])}
        found["next"], found["changed"] = found["next"] + 1, False
        return {"Version": version}

    def get_paginator(self, name):
        assert name == "list_versions_by_function"
        fake = self

        class Pages:
            def paginate(self, FunctionName):
                versions = fake._get(FunctionName, "ListVersionsByFunction")["versions"]
                told = [{"Version": "$LATEST", "Description": "x"}]
                told += [{"Version": one, "Description": kept["Description"]} for one, kept in versions.items()]
                return [{"Versions": told[:1]}, {"Versions": told[1:]}]

        return Pages()

    def get_alias(self, FunctionName, Name):
        aliases = self._get(FunctionName, "GetAlias")["aliases"]
        if Name not in aliases:
            raise missing("GetAlias")
        return dict(aliases[Name])

    def create_alias(self, FunctionName, Name, FunctionVersion, Description):
        self._write("create_alias")
        found = self._get(FunctionName, "CreateAlias")
        assert FunctionVersion in found["versions"] and Name not in found["aliases"]
        found["aliases"][Name] = {"FunctionVersion": FunctionVersion, "Description": Description}

    def update_alias(self, FunctionName, Name, FunctionVersion, Description):
        self._write("update_alias")
        found = self._get(FunctionName, "UpdateAlias")
        assert FunctionVersion in found["versions"] and Name in found["aliases"]
        found["aliases"][Name] = {"FunctionVersion": FunctionVersion, "Description": Description}

    def delete_function(self, FunctionName, Qualifier=""):
        self._write("delete_function")
        found = self._get(FunctionName, "DeleteFunction")
        if Qualifier:
            assert all(one["FunctionVersion"] != Qualifier for one in found["aliases"].values())
            found["versions"].pop(Qualifier)
        else:
            del self.functions[FunctionName]

    def get_policy(self, FunctionName, Qualifier):
        import json

        statements = self._get(FunctionName, "GetPolicy").get("policy", [])
        if not statements:
            raise missing("GetPolicy")
        return {"Policy": json.dumps({"Statement": statements})}

    def add_permission(self, FunctionName, StatementId, **more):
        self._write("add_permission")
        found = self._get(FunctionName, "AddPermission").setdefault("policy", [])
        assert all(one["Sid"] != StatementId for one in found)
        found.append({"Sid": StatementId, **more})

    def remove_permission(self, FunctionName, StatementId, Qualifier):
        found = self._get(FunctionName, "RemovePermission")
        if all(one["Sid"] != StatementId for one in found.get("policy", [])):
            raise missing("RemovePermission")
        self._write("remove_permission")
        found["policy"] = [one for one in found["policy"] if one["Sid"] != StatementId]

    def get_function_concurrency(self, FunctionName):
        return {"ReservedConcurrentExecutions": self._get(FunctionName, "x").get("most")}

    def put_function_concurrency(self, FunctionName, ReservedConcurrentExecutions):
        self._write("put_function_concurrency")
        self.functions[FunctionName]["most"] = ReservedConcurrentExecutions

    def delete_function_concurrency(self, FunctionName):
        self._write("delete_function_concurrency")
        del self.functions[FunctionName]["most"]

    def get_function_event_invoke_config(self, FunctionName, Qualifier):
        found = self._get(FunctionName, "x").get("async")
        if not found:
            raise missing("GetFunctionEventInvokeConfig")
        return found

    def put_function_event_invoke_config(self, FunctionName, Qualifier, **more):
        self._write("put_function_event_invoke_config")
        self.functions[FunctionName]["async"] = more
