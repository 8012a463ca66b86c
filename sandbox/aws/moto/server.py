"""The sandbox's AWS: moto behind HTTP, with state that survives a kill, and what replication needs.

Usage: python server.py --port PORT --state FOLDER

Requests are handled one after the other, each written to the state file before it is answered (persistence.py).
Paths under /_sandbox/ are for the gateway, which is the only client; it lets nobody else reach them:
  GET  /_sandbox/health                    200 once the state is loaded
  GET  /_sandbox/identities                users with their keys, roles, providers, bucket policies
  PUT  /_sandbox/access-key                {userName, accessKeyId, secretAccessKey}: a key of one's own choice
  PUT  /_sandbox/cluster                   {region, name, issuer, endpoint, certificateAuthority}: what EKS describes
  PUT  /_sandbox/instance-name             {region, instanceId, privateDnsName}
  GET  /_sandbox/replication               {configurations, waiting}
  POST /_sandbox/replication/apply         {bucket, key, versionId, rule}
  POST /_sandbox/replication/fail          the same
  POST /_sandbox/replication/retry-failed
"""

import argparse
import io
import json
import os
import re
import sys
import threading
import traceback

os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"
# Two thousand machine images a region, which nothing here looks at, cost a quarter of a second each.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
# moto asks botocore for data of services: no real account may be looked up on the way.
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
for variable in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
    os.environ.pop(variable, None)

import patches  # noqa: E402
import persistence  # noqa: E402
import pod_identity  # noqa: E402
import replication  # noqa: E402
from moto import backends  # noqa: E402
from moto.core import DEFAULT_ACCOUNT_ID  # noqa: E402
from moto.iam.models import AccessKey  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server  # noqa: E402

READS = re.compile(r"^(Describe|Get|List|Head|Lookup|Simulate)")
SIGNING_NAMES = {"elasticloadbalancing": "elbv2", "monitoring": "cloudwatch"}


class Handler(MotoRequestHandler):
    """Keeps connections open, without waiting to fill packets, and without a line of log a request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Headers and body of an answer in one packet.
    wbufsize = 64 * 1024

    def log_request(self, *_args):
        pass


def scope(environ):
    """(region, service) that the request is signed for; S3 when it is not signed."""
    found = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    if not found:
        return "us-east-1", "s3"
    service = found.group(2).lower()
    return found.group(1), SIGNING_NAMES.get(service, service)


def is_read(environ, service, body):
    if service == "s3" or environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return environ["REQUEST_METHOD"] in ("GET", "HEAD")
    target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    if not target:
        found = re.search(rb"(?:^|&)Action=(\w+)", body[:65536])
        target = found.group(1).decode() if found else ""
    return bool(READS.match(target))


class Application:
    def __init__(self, folder):
        self.lock = threading.RLock()
        self.queue = None
        persistence.patch_moto()
        replication.patch_moto(lambda: self.queue)
        patches.patch_moto()
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.store = persistence.Store(folder)
        self.queue = replication.Queue()

    def __call__(self, environ, start_response):
        # The body is read before the lock is taken: a slow client holds up nobody.
        body = self._read(environ)
        if body is None:
            # The sender went away: what came of an object is not the object.
            start_response("400 Bad Request", [("Content-Length", "0"), ("Connection", "close")])
            return []
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        raw_path = environ.get("RAW_URI", environ["PATH_INFO"]).partition("?")[0]
        with self.lock:
            if raw_path.startswith("/_sandbox/"):
                status, headers, chunks = self._own(environ, raw_path[len("/_sandbox") :], body)
            else:
                status, headers, chunks = self._aws(environ, raw_path, body)
        start_response(status, headers)
        return chunks

    @staticmethod
    def _read(environ):
        """The whole body; None when it broke off."""
        if environ.get("wsgi.input_terminated"):
            try:
                return environ["wsgi.input"].read()
            except OSError:
                return None
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        return body if len(body) == length else None

    def _aws(self, environ, raw_path, body):
        region, service = scope(environ)
        if service == "eks":
            query = environ.get("QUERY_STRING", "")
            answered = pod_identity.handle(environ["REQUEST_METHOD"], raw_path, query, region, body)
            if answered:
                self.store.save("eks", environ["REQUEST_METHOD"] != "GET")
                return self._json(*answered)
        result = {}

        def start(status, headers, _exc_info=None):
            result.update(status=status, headers=headers)

        # Consumed here, so that nothing is computed after the state was written.
        answer = self.moto(environ, start)
        chunks = list(answer)
        if hasattr(answer, "close"):
            answer.close()
        changed = not is_read(environ, service, body)
        if service == "s3":
            if result["status"].startswith("400"):
                result["status"] = patches.status_of(result["status"], chunks)
            bucket, key = replication.key_of(raw_path)
            dirty = {entry for entry in self.store.dirty if entry[0]}
            if changed and bucket and key:
                dirty.add((bucket, key))
            self.queue.after_write(dirty)
            self.store.save("s3", changed, bucket if changed else None, key if changed else None)
        else:
            self.store.save(service, changed)
        return result["status"], result["headers"], chunks

    @staticmethod
    def _json(status, body):
        data = json.dumps(body).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        if status >= 400 and "__type" in body:
            headers.append(("x-amzn-ErrorType", body["__type"]))
        return f"{status} {'OK' if status < 400 else 'Error'}", headers, [data]

    # -- the gateway's own calls

    def _own(self, environ, path, body):
        calls = {
            ("GET", "/health"): self._health,
            ("GET", "/identities"): self._identities,
            ("PUT", "/access-key"): self._access_key,
            ("PUT", "/cluster"): self._cluster,
            ("PUT", "/instance-name"): self._instance_name,
            ("GET", "/replication"): self._replication,
            ("POST", "/replication/apply"): self._apply,
            ("POST", "/replication/fail"): self._fail,
            ("POST", "/replication/retry-failed"): self._retry_failed,
        }
        call = calls.get((environ["REQUEST_METHOD"], path))
        if call is None:
            return self._json(404, {"message": f"no such call: {environ['REQUEST_METHOD']} {path}"})
        try:
            return self._json(200, call(json.loads(body) if body else {}))
        except KeyError as missing:
            return self._json(404, {"message": f"not found: {missing}"})
        except Exception as fault:
            traceback.print_exc()
            return self._json(500, {"message": repr(fault)})

    def _health(self, _body):
        return {"ok": True}

    def _identities(self, _body):
        iam = backends.get_backend("iam")[DEFAULT_ACCOUNT_ID]["aws"]

        def document(policy):
            return next(v.document for v in policy.versions if v.version_id == policy.default_version_id)

        def policies(owner):
            return [document(policy) for policy in owner.managed_policies.values()] + list(owner.policies.values())

        def boundary(arn):
            if not arn:
                return None
            # A boundary that does not exist allows nothing.
            return document(iam.managed_policies[arn]) if arn in iam.managed_policies else '{"Statement": []}'

        return {
            "users": [
                {
                    "name": user.name,
                    "arn": user.arn,
                    "id": user.id,
                    "policies": policies(user),
                    "keys": [
                        {"id": key.access_key_id, "secret": key.secret_access_key}
                        for key in user.access_keys
                        if key.status == "Active"
                    ],
                }
                for user in iam.users.values()
            ],
            "roles": [
                {
                    "name": role.name,
                    "arn": role.arn,
                    "id": role.id,
                    "trust": role.assume_role_policy_document,
                    "maxSession": role.max_session_duration or 3600,
                    "policies": policies(role),
                    "boundary": boundary(role.permissions_boundary_arn),
                }
                for role in iam.roles.values()
            ],
            "providers": [
                {"arn": provider.arn, "url": provider.url, "clientIds": list(provider.client_id_list or [])}
                for provider in iam.open_id_providers.values()
            ],
            "buckets": [
                {"name": bucket.name, "policy": bucket.policy.decode() if bucket.policy else None}
                for bucket in persistence.s3_backend().buckets.values()
            ],
        }

    def _access_key(self, body):
        iam = backends.get_backend("iam")[DEFAULT_ACCOUNT_ID]["aws"]
        user = iam.users[body["userName"]]
        if not any(key.access_key_id == body["accessKeyId"] for key in user.access_keys):
            user.access_keys.append(AccessKey(user.name, prefix="AKIA", account_id=DEFAULT_ACCOUNT_ID))
            user.access_keys[-1].access_key_id = body["accessKeyId"]
        for key in user.access_keys:
            if key.access_key_id == body["accessKeyId"]:
                key.secret_access_key = body["secretAccessKey"]
                iam.access_keys[key.access_key_id] = key
        self.store.save("iam", True)
        return {}

    def _cluster(self, body):
        cluster = backends.get_backend("eks")[DEFAULT_ACCOUNT_ID][body["region"]].clusters[body["name"]]
        cluster.identity = {"oidc": {"issuer": body["issuer"]}}
        cluster.endpoint = body["endpoint"]
        cluster.certificate_authority = {"data": body["certificateAuthority"]}
        self.store.save("eks", True)
        return {}

    def _instance_name(self, body):
        ec2 = backends.get_backend("ec2")[DEFAULT_ACCOUNT_ID][body["region"]]
        instance = ec2.get_instance(body["instanceId"])
        instance.sandbox_private_dns_name = body["privateDnsName"]
        for interface in instance.nics.values():
            interface.private_dns_name = body["privateDnsName"]
        self.store.save("ec2", True)
        return {}

    def _replication(self, _body):
        return {"configurations": self.queue.configurations(), "waiting": self.queue.describe()}

    def _settle(self, body, failed, reason):
        self.queue.settle(body, body["rule"], failed)
        self.store.save("s3", True, body["bucket"], body["key"])
        return {"done": not failed, "reason": reason}

    def _apply(self, body):
        applied, reason = self.queue.apply(body, body["rule"])
        return self._settle(body, not applied, reason)

    def _fail(self, body):
        return self._settle(body, True, body.get("reason", ""))

    def _retry_failed(self, _body):
        changed = self.queue.retry_failed()
        self.store.dirty.update(changed)
        self.store.save("s3", True)
        return {"versions": len(changed)}


def main():
    parser = argparse.ArgumentParser(description="moto with state on disk")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", required=True)
    options = parser.parse_args()
    os.environ["MOTO_PORT"] = str(options.port)
    application = Application(options.state)
    server = make_server(options.host, options.port, application, threaded=True, request_handler=Handler)
    print(f"moto answers on {options.host}:{options.port}, state in {options.state}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
