"""OSCAR's keys that a function has no field for: what each may hold and what it would do."""

from __future__ import annotations

from typing import Any

from volvox.functions.document import Value
from volvox.functions.entries import Kept, Table
from volvox.functions.values import (
    anything,
    choice,
    listing,
    mapping,
    matching,
    quantity,
    said,
    text,
    texts,
    truth,
    whole,
    wholes,
)

_OSCAR = "counts on runtime oscar"
_EXPOSE = "of a service that is exposed over HTTP; counts on runtimes oscar and kubernetes"
_KSERVE = "of a model that KServe serves; counts on runtime oscar"
_FEDERATION = "how jobs are given to other clusters; counts on runtime oscar"

# Answers of a cluster, which a definition that was fetched from one still has.
READ_ONLY = ("bucket_list", "token", "owner", "namespace", "volume_status", "deployment")

_MEMBER = choice("oscar", "endpoint")


def _members(value: Value) -> list[Any]:
    for each in value.items if value.kind == "list" else (value,):
        if each.kind != "map":
            raise each.wrong(f"is {each.told}; write keys and values: type, cluster_id, service_name, ...")
        if (kind := each.get("type")) is not None:
            _MEMBER(kind)
    return listing(value)


FEDERATION: Table = {
    "group_id": Kept(said, f"the group of clusters; {_FEDERATION}"),
    "topology": Kept(choice("none", "star", "mesh"), _FEDERATION),
    "delegation": Kept(choice("static", "random", "load-based", "topsis"), _FEDERATION),
    "rescheduler_threshold": Kept(whole(0, None, "seconds"), f"how long a job waits before it is; {_FEDERATION}"),
    "members": Kept(_members, f"the clusters; {_FEDERATION}"),
}

SERVICE: Table = {
    "log_level": Kept(
        choice("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "what the supervisor logs; our runner keeps all that the script prints",
    ),
    "total_memory": Kept(quantity, f"memory of all jobs together; {_OSCAR}"),
    "total_cpu": Kept(quantity, f"processors of all jobs together; {_OSCAR}"),
    "enable_sgx": Kept(truth, f"Intel SGX; {_OSCAR}"),
    "image_prefetch": Kept(truth, f"the image is fetched to every node at once; {_OSCAR}"),
    "alpine": Kept(truth, "a supervisor for musl; not needed by our runner"),
    "expose": {
        "min_scale": Kept(whole(0, 1000), f"the fewest instances {_EXPOSE}"),
        "max_scale": Kept(whole(0, 1000), f"the most instances {_EXPOSE}"),
        "api_port": Kept(wholes(0, 65_535), f"the port {_EXPOSE}"),
        "nodePort": Kept(wholes(0, 65_535), f"the port of the nodes {_EXPOSE}"),
        "cpu_threshold": Kept(whole(0, 100), f"the load in per cent at which another is started {_EXPOSE}"),
        "rewrite_target": Kept(truth, f"whether paths are rewritten {_EXPOSE}"),
        "default_command": Kept(truth, f"whether the image's own command runs {_EXPOSE}"),
        "set_auth": Kept(truth, f"whether callers must log in {_EXPOSE}"),
        "auth_type": Kept(said, f"how callers log in {_EXPOSE}"),
        "health_path": Kept(text, f"the path that tells whether it is well {_EXPOSE}"),
        "probe_mode": Kept(said, f"how its health is asked {_EXPOSE}"),
    },
    "kserve": {
        "type": Kept(choice("inference", "llm_inference"), f"the kind {_KSERVE}"),
        "storage_uri": Kept(said, f"the weights {_KSERVE}"),
        "inference": {
            "model_format": Kept(said, f"the format {_KSERVE}"),
            "runtime": Kept(said, f"the server {_KSERVE}"),
        },
        "llm_inference": {"runtime_image": Kept(said, f"the image {_KSERVE}")},
        "api_version": Kept(choice("v1", "v2"), f"the protocol {_KSERVE}"),
        "min_scale": Kept(whole(0, 1000), f"the fewest instances {_KSERVE}"),
        "max_scale": Kept(whole(0, 1000), f"the most instances {_KSERVE}"),
        "cpu": Kept(quantity, f"processors {_KSERVE}"),
        "memory": Kept(quantity, f"memory {_KSERVE}"),
        "args": Kept(texts, f"arguments {_KSERVE}"),
        "env": Kept(anything, f"variables {_KSERVE}"),
        "enable_gpu": Kept(truth, f"a GPU {_KSERVE}"),
        "set_auth": Kept(truth, f"whether callers must log in {_KSERVE}"),
    },
    "federation": FEDERATION,
    "image_pull_secrets": Kept(
        texts, "the cluster's secrets by which the image is fetched; counts on runtimes oscar and kubernetes"
    ),
    "annotations": Kept(mapping, "annotations of its jobs; counts on runtimes oscar and kubernetes"),
    "labels": Kept(mapping, "labels of its jobs; counts on runtimes oscar and kubernetes"),
    "vo": Kept(text, f"the virtual organisation whose members may use it; {_OSCAR}"),
    "visibility": Kept(choice("private", "restricted", "public"), f"who may see and call it; {_OSCAR}"),
    "allowed_users": Kept(texts, f"who may use a restricted one; {_OSCAR}"),
    "isolation_level": Kept(
        choice("SERVICE", "USER"),
        f"USER: a bucket for each user; {_OSCAR}; here per_user of an input keeps users apart",
    ),
    "mount": {
        "storage_provider": Kept(said, f"what is mounted under /mnt; {_OSCAR}"),
        "path": Kept(said, f"the folder that is mounted under /mnt; {_OSCAR}"),
        "options": Kept(anything, f"how it is mounted; {_OSCAR}"),
    },
    "volume": {
        "name": Kept(said, f"the volume; {_OSCAR}"),
        "size": Kept(quantity, f"its size; {_OSCAR}"),
        "mount_path": Kept(matching(r"/.*", "write an absolute path"), f"where the volume is mounted; {_OSCAR}"),
        "lifecycle_policy": Kept(choice("delete", "retain"), f"what becomes of the volume; {_OSCAR}"),
    },
    "interlink_node_name": Kept(said, f"the virtual node that it runs on; {_OSCAR}"),
}
