"""EKS Pod Identity associations, which moto does not have: the calls that manage and tag them, and nothing more.

They are kept on moto's cluster object, so they live and die with the cluster. No agent hands out credentials for
them: the sandbox runs web identity only.
"""

import json
import re
import time
import uuid
from urllib.parse import parse_qs, unquote

from moto import backends
from moto.core import DEFAULT_ACCOUNT_ID

TAGS_PATH = re.compile(r"^/tags/(arn:aws:eks:[^:]+:\d+:podidentityassociation/([^/]+)/([^/]+))$")
PATH = re.compile(r"^/clusters/([^/]+)/pod-identity-associations(?:/([^/]+))?$")


def _error(status, kind, message):
    return status, {"__type": kind, "message": message}


def handle(method, path, query, region, raw_body):
    """Returns (status, body as a dict), or None when the path is not one of these calls."""
    tagged = TAGS_PATH.match(unquote(path))
    if tagged:
        return _tags(method, *tagged.groups(), parse_qs(query), region, raw_body)
    found = PATH.match(path)
    if not found:
        return None
    name, association_id = found.groups()
    held = _held(name, region)
    if held is None:
        return _error(404, "ResourceNotFoundException", f"No cluster found for name: {name}.")
    body = json.loads(raw_body) if raw_body else {}
    if association_id is None:
        return _create(held, name, region, body) if method == "POST" else _list(held, parse_qs(query))
    association = held.get(association_id)
    if association is None:
        return _error(404, "ResourceNotFoundException", f"No association found with id: {association_id}.")
    if method == "DELETE":
        del held[association_id]
    elif method == "POST":
        association.update({k: body[k] for k in ("roleArn", "targetRoleArn") if k in body}, modifiedAt=time.time())
    return 200, {"association": association}


def _held(cluster_name, region):
    """A cluster's associations by id; None when there is no such cluster."""
    cluster = backends.get_backend("eks")[DEFAULT_ACCOUNT_ID][region].clusters.get(cluster_name)
    return None if cluster is None else cluster.__dict__.setdefault("pod_identities", {})


def _list(held, query):
    fields = ("clusterName", "namespace", "serviceAccount", "associationArn", "associationId")
    wanted = {name: query[name][0] for name in ("namespace", "serviceAccount") if name in query}
    found = [a for a in held.values() if all(a[name] == value for name, value in wanted.items())]
    return 200, {"associations": [{field: a[field] for field in fields} for a in found]}


def _create(held, cluster, region, body):
    if any(a["namespace"] == body["namespace"] and a["serviceAccount"] == body["serviceAccount"] for a in held.values()):
        return _error(409, "ResourceInUseException", "Association already exists")
    identifier = "a-" + uuid.uuid4().hex[:17]
    held[identifier] = {
        "clusterName": cluster,
        "namespace": body["namespace"],
        "serviceAccount": body["serviceAccount"],
        "roleArn": body["roleArn"],
        "associationArn": f"arn:aws:eks:{region}:{DEFAULT_ACCOUNT_ID}:podidentityassociation/{cluster}/{identifier}",
        "associationId": identifier,
        "tags": body.get("tags") or {},
        "createdAt": time.time(),
        "modifiedAt": time.time(),
    }
    return 200, {"association": held[identifier]}


def _tags(method, arn, cluster_name, association_id, query, region, raw_body):
    association = (_held(cluster_name, region) or {}).get(association_id)
    if association is None:
        return _error(404, "NotFoundException", f"The resource {arn} does not exist.")
    if method == "POST":
        association["tags"].update(json.loads(raw_body)["tags"])
        return 200, {}
    if method == "DELETE":
        for key in query.get("tagKeys", []):
            association["tags"].pop(key, None)
        return 200, {}
    return 200, {"tags": association["tags"]}
