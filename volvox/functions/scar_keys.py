"""SCAR's keys that a function has no field for: what each may hold and what it would do."""

from __future__ import annotations

from volvox.functions.document import Value
from volvox.functions.entries import Kept, Table
from volvox.functions.values import (
    anything,
    choice,
    listing,
    mapping,
    matching,
    said,
    text,
    texts,
    truth,
    whole,
    words,
)

_LAMBDA = "counts on the runtimes lambda and lambda-batch"
_BATCH = "counts on the runtimes batch and lambda-batch"
_ARN = matching(r"arn:\S+", "write an ARN, arn:aws:...")
_REGION = matching(r"[a-z]{2}(-[a-z]+)+-\d", "write a region of AWS, such as us-east-1")
_PROFILE = Kept(text, "the profile of ~/.aws/credentials; counts on runtimes of AWS")
_PLACE = Kept(_REGION, "the region; counts on runtimes of AWS")
_RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
_AT = {"boto_profile": _PROFILE, "region": _PLACE}


def _arns(value: Value) -> list[str]:
    return [_ARN(each) for each in (value.items if value.kind == "list" else (value,))]


def _retention(value: Value) -> int:
    days = whole(1, 3653, "days")(value)
    if days not in _RETENTIONS:
        raise value.wrong(f"is {value.told}; AWS allows {', '.join(map(str, _RETENTIONS))} days")
    return days


LAMBDA: Table = {
    **_AT,
    "runtime": Kept(
        matching(r"image|[a-z]+[0-9][0-9a-z.]*", "write image, or a runtime of AWS Lambda such as python3.12"),
        f"how the function is packed, `image` as a container image; {_LAMBDA}",
    ),
    "memory": Kept(
        whole(128, 10240, "MB"), "the memory of the Lambda function that submits the job; counts on runtime batch"
    ),
    "timeout": Kept(
        whole(1, 900, "seconds"), "the time of the Lambda function that submits the job; counts on runtime batch"
    ),
    "architectures": Kept(words("x86_64", "arm64"), f"the processor, with runtime image; {_LAMBDA}"),
    "layers": Kept(_arns, f"layers of the Lambda function; {_LAMBDA}"),
    "environment": {"Variables": Kept(mapping, f"variables of Lambda itself, not of the container; {_LAMBDA}")},
    "run_script": Kept(said, "a script that one `scar run` sends; `volvox functions invoke` takes one"),
    "container": {
        "alpine": Kept(truth, "a supervisor for musl; not needed by our runner"),
        "create_image": Kept(truth, f"false: the image is in ECR already; {_LAMBDA} with runtime image"),
        "timeout_threshold": Kept(whole(0, 900, "seconds"), f"time kept back for uploads; {_LAMBDA}"),
    },
    "deployment": {
        "bucket": Kept(said, f"the bucket for large packages; {_LAMBDA}"),
        "max_payload_size": Kept(whole(1), f"bytes of a package that is sent directly; {_LAMBDA}"),
        "max_s3_payload_size": Kept(whole(1), f"bytes of a package that is sent by the bucket; {_LAMBDA}"),
    },
    "log_level": Kept(
        choice("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "what the supervisor logs; our runner keeps all that the script prints",
    ),
    "log_type": Kept(choice("Tail", "None"), "what Lambda answers of its log; counts on runtime lambda"),
    "invocation_type": Kept(choice("RequestResponse", "Event", "DryRun"), "how SCAR calls it; here the caller says so"),
    "asynchronous": Kept(truth, "how SCAR calls it; here the caller says so"),
    "supervisor": {
        "version": Kept(said, "the release of faas-supervisor; our runner is used instead"),
        "layer_name": Kept(said, "the layer of faas-supervisor; our runner is used instead"),
        "license_info": Kept(said, "the licence of faas-supervisor's layer; our runner is used instead"),
    },
    "vpc": {
        "SubnetIds": Kept(texts, f"subnets of the function; {_LAMBDA}"),
        "SecurityGroupIds": Kept(texts, f"security groups of the function; {_LAMBDA}"),
    },
    "file_system": Kept(listing, f"EFS volumes, with runtime image; {_LAMBDA}"),
    "extra_payload": Kept(said, f"a folder that is packed with the function; {_LAMBDA}"),
    "preheat": Kept(
        truth, f"one call at once, which fetches the image; {_LAMBDA}; here scaling.min_scale keeps it warm"
    ),
}

BATCH: Table = {
    **_AT,
    "vcpus": Kept(whole(1, 10_000), f"processors of a job; {_BATCH}"),
    "memory": Kept(whole(4, 100_000_000, "MiB"), f"memory of a job; {_BATCH}"),
    "enable_gpu": Kept(truth, f"a GPU for each job; {_BATCH}"),
    "state": Kept(choice("ENABLED", "DISABLED"), f"state of the compute environment; {_BATCH}"),
    "type": Kept(choice("MANAGED", "UNMANAGED"), f"kind of the compute environment; {_BATCH}"),
    "environment": {"Variables": Kept(mapping, f"variables of the Batch container alone; {_BATCH}")},
    "service_role": Kept(_ARN, f"the role by which Batch calls other services; {_BATCH}"),
    "compute_resources": {
        "type": Kept(choice("EC2", "SPOT", "FARGATE", "FARGATE_SPOT"), f"the kind of machines; {_BATCH}"),
        "desired_v_cpus": Kept(whole(0), f"processors at the beginning; {_BATCH}"),
        "min_v_cpus": Kept(whole(0), f"processors that stay, 0: none; {_BATCH}"),
        "max_v_cpus": Kept(whole(1), f"processors at most; {_BATCH}"),
        "instance_types": Kept(texts, f"types of machines; {_BATCH}"),
        "subnets": Kept(texts, f"subnets of the machines; {_BATCH}"),
        "security_group_ids": Kept(texts, f"security groups of the machines; {_BATCH}"),
        "launch_template_name": Kept(said, f"the machines' launch template; {_BATCH}"),
        "instance_role": Kept(said, f"the machines' role; {_BATCH}"),
    },
    "multi_node_parallel": {
        "enabled": Kept(truth, f"one job on several machines (MPI); {_BATCH}"),
        "number_nodes": Kept(whole(1, 1000), f"how many machines one job has; {_BATCH}"),
        "main_node_index": Kept(whole(0, 999), f"which of them leads; {_BATCH}"),
    },
}

SIBLINGS: Table = {
    "batch": BATCH,
    "iam": {
        **_AT,
        "role": Kept(_ARN, "the role that the function has; counts on runtimes of AWS"),
    },
    "api_gateway": {
        **_AT,
        "name": Kept(said, "an address that calls the function over HTTP; counts on lambda and at /v1/apis/"),
        "http_method": Kept(
            choice("ANY", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"),
            "the method that address takes; counts on lambda and at /v1/apis/",
        ),
        "method": Kept(anything, "who may call that address; counts on lambda and at /v1/apis/"),
        "integration": Kept(anything, "how that address calls the function; counts on lambda and at /v1/apis/"),
        "path_part": Kept(said, "a part of that address; counts on lambda and at /v1/apis/"),
        "stage_name": Kept(said, "a part of that address; counts on lambda and at /v1/apis/"),
        "endpoint": Kept(said, "the form of that address; counts on lambda and at /v1/apis/"),
    },
    "cloudwatch": {
        **_AT,
        "log_retention_policy_in_days": Kept(
            _retention, "how long AWS keeps logs; counts on runtimes of AWS; here keep_days is for jobs"
        ),
    },
    "ecr": {**_AT, "delete_image": Kept(truth, "whether the image goes with the function; counts on runtime lambda")},
    "s3": {**_AT, "event": Kept(mapping, "the template of events that `scar run` sends")},
}
