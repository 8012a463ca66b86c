"""EKS Pod Identity associations, which moto does not have: the five calls that manage them, and nothing more.

They are kept on moto's cluster object, so they live and die with the cluster. No agent hands out credentials for
them: the sandbox runs web identity only.
"""

import json
import re
import time
import uuid

from moto import backends
from moto.core import DEFAULT_ACCOUNT_ID

PATH = re.compile(r"^/clusters/([^/]+)/pod-identity-associations(?:/([^/]+))?$")


def _answer(status, body):
    return status, body


def _error(status, kind, message):
    return status, {"__type": kind, "message": message}


def handle(method, path, region, raw_body):
    """Returns (status, body as a dict), or None when the path is not one of these calls."""
    found = PATH.match(path)
    if not found:
        return None
    name, association_id = found.groups()
    cluster = backends.get_backend("eks")[DEFAULT_ACCOUNT_ID][region].clusters.get(name)
    if cluster is None:
        return _error(404, "ResourceNotFoundException", f"No cluster found for name: {name}.")
    held = cluster.__dict__.setdefault("pod_identities", {})
    body = json.loads(raw_body) if raw_body else {}
    if association_id is None:
        if method == "POST":
            return _create(held, name, region, body)
        fields = ("clusterName", "namespace", "serviceAccount", "associationArn", "associationId")
        return _answer(200, {"associations": [{f: a[f] for f in fields} for a in held.values()]})
    association = held.get(association_id)
    if association is None:
        return _error(404, "ResourceNotFoundException", f"No association found with id: {association_id}.")
    if method == "DELETE":
        del held[association_id]
    elif method == "POST":
        association.update({k: body[k] for k in ("roleArn", "targetRoleArn") if k in body}, modifiedAt=time.time())
    return _answer(200, {"association": association})


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
    return _answer(200, {"association": held[identifier]})
