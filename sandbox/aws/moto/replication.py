"""The half of S3 replication that must be atomic with a write: checking configurations, and noting at each write
which rules of the bucket ask for a copy.

What is to be copied is part of a version's own state (`version.replication`), saved in the transaction that saves
the version. So the copier's queue cannot lose anything: it is the set of versions that still wait for a rule.
The copier itself (delays, permissions, order, retries) is `../copier.ts`; it calls `apply` and `fail` here.

Replicas keep their version id and their time of modification, and are placed among the destination's versions by
that time: when both regions write one key, the later write is the current version in both.
"""

import copy
import re
import time
from urllib.parse import unquote

import xmltodict
from moto import backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.utils import unix_time_millis
from moto.s3 import models as s3
from moto.s3.exceptions import S3ClientError
from moto.s3.responses import S3Response
from persistence import s3_backend

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Refused(S3ClientError):
    """A request that S3 refuses because of replication: code and message."""


def _list(value):
    return [] if value is None else value if isinstance(value, list) else [value]


def _tags(parsed):
    return {tag["Key"]: tag.get("Value") or "" for tag in _list(parsed)}


def _filter(rule):
    """(prefix, tags) of a rule, whichever of the forms it is written in."""
    if "Filter" not in rule:
        return rule.get("Prefix") or "", {}
    parsed = rule["Filter"] or {}
    inner = parsed.get("And") or parsed
    return inner.get("Prefix") or "", _tags(inner.get("Tag"))


def _status(rule, *path):
    for name in path:
        rule = (rule or {}).get(name)
    return (rule or {}).get("Status")


def role_exists(arn):
    found = re.fullmatch(r"arn:aws:iam::\d{12}:role/(?:.*/)?([^/]+)", arn or "")
    return bool(found) and any(
        role.arn == arn for role in backends.get_backend("iam")[DEFAULT_ACCOUNT_ID]["aws"].roles.values()
    )


def check(bucket, config):
    """Raises what S3 answers to a configuration that it refuses; gives every rule its id."""
    guide = "Please refer to S3 Developer Guide for more information."
    if not role_exists(config.get("Role")):
        raise Refused("InvalidArgument", f"Invalid Role ARN: {config.get('Role')} does not exist")
    rules = config["Rule"] = _list(config.get("Rule"))
    if not rules:
        raise Refused("MalformedXML", "The XML you provided was not well-formed or did not validate")
    ids, priorities = set(), set()
    for number, rule in enumerate(rules):
        rule.setdefault("ID", None)
        rule["ID"] = rule["ID"] or f"rule-{number}-{int(time.time() * 1000)}"
        if rule["ID"] in ids:
            raise Refused("InvalidArgument", "Rule Id must be unique. Found same Id for more than one rule")
        ids.add(rule["ID"])
        if rule.get("Status") not in ("Enabled", "Disabled"):
            raise Refused("MalformedXML", "The XML you provided was not well-formed or did not validate")
        schema = "for this version of Cross Region Replication configuration schema. " + guide
        if "Filter" in rule:
            if "Priority" not in rule:
                raise Refused("InvalidRequest", f"Priority must be specified {schema}")
            if _status(rule, "DeleteMarkerReplication") is None:
                raise Refused("InvalidRequest", f"DeleteMarkerReplication must be specified {schema}")
            if _filter(rule)[1] and _status(rule, "DeleteMarkerReplication") == "Enabled":
                raise Refused(
                    "InvalidRequest", f"Delete marker replication is not supported if any Tag filter is specified. {guide}"
                )
            if rule["Priority"] in priorities:
                raise Refused("InvalidRequest", f"Found duplicate priority {rule['Priority']}. {guide}")
            priorities.add(rule["Priority"])
        destination = rule.get("Destination") or {}
        if _status(destination, "ReplicationTime") == "Enabled" and _status(destination, "Metrics") != "Enabled":
            raise Refused("InvalidRequest", f"Replication Metrics must be enabled when Replication Time is. {guide}")
        target = s3_backend().buckets.get((destination.get("Bucket") or "").removeprefix("arn:aws:s3:::"))
        if target is None:
            raise Refused("InvalidRequest", "Destination bucket must exist.")
        if not target.is_versioned:
            raise Refused("InvalidRequest", "Destination bucket must have versioning enabled.")
        if target is bucket:
            raise Refused("InvalidRequest", "Destination bucket cannot be the same as the source bucket.")


def _rules(bucket):
    config = getattr(bucket, "replication", None)
    return config["Rule"] if config else []


def _wanted(bucket, version, kind):
    """Ids of the rules that ask for this version to be copied: per destination, the one of highest priority."""
    tags = {} if kind == "deleteMarker" else s3_backend().tagger.get_tag_dict_for_resource(version.arn)
    chosen = {}
    for rule in sorted(_rules(bucket), key=lambda r: -int(r.get("Priority") or 0)):
        prefix, wanted_tags = _filter(rule)
        if rule["Status"] != "Enabled" or not version.name.startswith(prefix):
            continue
        if any(tags.get(key) != value for key, value in wanted_tags.items()):
            continue
        # A rule without Filter is of the first schema, which always copies delete markers.
        if kind == "deleteMarker" and "Filter" in rule and _status(rule, "DeleteMarkerReplication") != "Enabled":
            continue
        chosen.setdefault(rule["Destination"]["Bucket"], rule)
    if kind == "modification" and version.replication["status"] == "REPLICA":
        chosen = {
            bucket: rule
            for bucket, rule in chosen.items()
            if _status(rule, "SourceSelectionCriteria", "ReplicaModifications") == "Enabled"
        }
    return [rule["ID"] for rule in chosen.values()]


class Queue:
    """The versions that wait for a copy, in the order in which they were written."""

    def __init__(self):
        self.waiting = {}
        self.touched = set()
        for bucket in s3_backend().buckets.values():
            for versions in dict.values(bucket.keys):
                for version in versions:
                    self._track(bucket.name, version)
        self.waiting = dict(sorted(self.waiting.items(), key=lambda item: item[1].replication["since"]))

    def _track(self, bucket_name, version):
        state = getattr(version, "replication", None)
        name = (bucket_name, version.name, str(version.version_id))
        if state and state["pending"]:
            self.waiting[name] = version
        else:
            self.waiting.pop(name, None)

    def after_write(self, dirty):
        """Looks at what a request changed; call before it is saved."""
        for bucket_name, key in dirty:
            bucket = s3_backend().buckets.get(bucket_name)
            versions = bucket.keys.getlist(key, []) if bucket else []
            kept = {str(v.version_id) for v in versions}
            for name in [n for n in self.waiting if n[0] == bucket_name and n[1] == key and n[2] not in kept]:
                del self.waiting[name]
            for version in versions:
                if not hasattr(version, "replication"):
                    version.replication = None
                    kind = "deleteMarker" if isinstance(version, s3.FakeDeleteMarker) else "object"
                    self._want(bucket, version, kind)
                elif id(version) in self.touched and version.replication:
                    self._want(bucket, version, "modification")
        self.touched.clear()

    def _want(self, bucket, version, kind):
        rules = _wanted(bucket, version, kind)
        if not rules:
            return
        previous = version.replication or {}
        # A change to something whose content still waits is part of that copy.
        if previous.get("pending") and previous["kind"] != "modification":
            kind = previous["kind"]
        version.replication = {
            "status": "REPLICA" if previous.get("status") == "REPLICA" else "PENDING",
            "kind": kind,
            "pending": rules,
            "failed": [],
            "since": int(time.time() * 1000),
        }
        self._track(bucket.name, version)

    # -- what the copier calls

    def describe(self):
        return [
            {
                "bucket": bucket,
                "key": key,
                "versionId": version_id,
                "kind": version.replication["kind"],
                "rules": version.replication["pending"],
                "since": version.replication["since"],
                "size": getattr(version, "size", 0),
                "tagged": version.replication["kind"] != "deleteMarker"
                and s3_backend().tagger.has_tags(version.arn),
            }
            for (bucket, key, version_id), version in list(self.waiting.items())
        ]

    def configurations(self):
        return [
            {
                "bucket": bucket.name,
                "region": bucket.region_name,
                "role": bucket.replication["Role"],
                "rules": [
                    {
                        "id": rule["ID"],
                        "status": rule["Status"],
                        "destination": rule["Destination"]["Bucket"].removeprefix("arn:aws:s3:::"),
                        "destinationRegion": getattr(
                            s3_backend().buckets.get(rule["Destination"]["Bucket"].removeprefix("arn:aws:s3:::")),
                            "region_name",
                            None,
                        ),
                        "metrics": _status(rule, "Destination", "Metrics") == "Enabled",
                        "timeControl": _status(rule, "Destination", "ReplicationTime") == "Enabled",
                    }
                    for rule in _rules(bucket)
                ],
            }
            for bucket in s3_backend().buckets.values()
            if _rules(bucket)
        ]

    def settle(self, task, rule_id, failed):
        """Notes the outcome of one rule for one version. Returns whether it was still waiting."""
        version = self.waiting.get((task["bucket"], task["key"], task["versionId"]))
        if version is None or rule_id not in version.replication["pending"]:
            return False
        state = version.replication
        state["pending"] = [rule for rule in state["pending"] if rule != rule_id]
        if failed:
            state["failed"] = [*state["failed"], rule_id]
        if not state["pending"] and state["status"] != "REPLICA":
            state["status"] = "FAILED" if state["failed"] else "COMPLETED"
        self._track(task["bucket"], version)
        return True

    def retry_failed(self):
        """Makes every version whose copy failed wait again, as S3 Batch Replication does. Returns the keys changed."""
        changed = []
        for bucket in s3_backend().buckets.values():
            ids = {rule["ID"] for rule in _rules(bucket)}
            for key, versions in dict.items(bucket.keys):
                for version in versions:
                    state = getattr(version, "replication", None)
                    again = [rule for rule in (state or {}).get("failed", []) if rule in ids]
                    if again:
                        state["pending"] += again
                        state["failed"] = []
                        if state["status"] != "REPLICA":
                            state["status"] = "PENDING"
                        self._track(bucket.name, version)
                        changed.append((bucket.name, key))
        return changed

    def apply(self, task, rule_id):
        """Copies one version for one rule. Returns (applied, reason)."""
        bucket = s3_backend().buckets.get(task["bucket"])
        version = self.waiting.get((task["bucket"], task["key"], task["versionId"]))
        if bucket is None or version is None or rule_id not in version.replication["pending"]:
            return True, "nothing waits"
        rule = next((r for r in _rules(bucket) if r["ID"] == rule_id), None)
        if rule is None:
            return False, f"bucket {bucket.name} has no rule {rule_id} any more"
        target = s3_backend().buckets.get(rule["Destination"]["Bucket"].removeprefix("arn:aws:s3:::"))
        if target is None or not target.is_versioned:
            return False, f"{rule['Destination']['Bucket']} does not exist or has no versioning"
        if version.replication["kind"] == "modification" and self._modify(target, version):
            return True, "changed"
        if not any(str(v.version_id) == str(version.version_id) for v in target.keys.getlist(version.name, [])):
            replica = (
                self._marker(target, version)
                if isinstance(version, s3.FakeDeleteMarker)
                else self._replica(target, version, rule["Destination"].get("StorageClass"))
            )
            _place(target, replica)
        return True, "copied"

    def _modify(self, target, version):
        for replica in target.keys.getlist(version.name, []):
            if str(replica.version_id) == str(version.version_id):
                replica.acl = version.acl
                _copy_tags(version, replica)
                target.keys.setlist(version.name, target.keys.getlist(version.name))
                return True
        return False

    def _replica(self, target, version, storage_class):
        replica = object.__new__(s3.FakeKey)
        state = dict(version.__getstate__(), bucket_name=target.name, multipart=None)
        state["_value_buffer"] = version._value_buffer.copy()
        replica.__setstate__(state)
        replica._metadata = copy.deepcopy(version._metadata)
        if storage_class:
            replica._storage_class = storage_class
        _give_encryption(target, replica)
        replica.replication = {"status": "REPLICA", "kind": "object", "pending": [], "failed": [], "since": 0}
        _copy_tags(version, replica)
        return replica

    def _marker(self, target, version):
        marker = object.__new__(s3.FakeDeleteMarker)
        marker.name = version.name
        marker.key = target.keys.get(version.name)
        marker.last_modified = version.last_modified
        marker._version_id = version._version_id
        marker.replication = {"status": "REPLICA", "kind": "deleteMarker", "pending": [], "failed": [], "since": 0}
        return marker


def _give_encryption(target, replica):
    """A replica is encrypted as its source is, else as its bucket says."""
    if replica.encryption is None and target.encryption:
        default = target.encryption["Rule"]["ApplyServerSideEncryptionByDefault"]
        replica.encryption = default["SSEAlgorithm"]
        replica.kms_key_id = default.get("KMSMasterKeyID")


def _copy_tags(version, replica):
    tagger = s3_backend().tagger
    tagger.delete_all_tags_for_resource(replica.arn)
    if tagger.has_tags(version.arn):
        tagger.copy_tags(version.arn, replica.arn)


def _place(target, replica):
    versions = list(target.keys.getlist(replica.name, []))
    time_of = unix_time_millis(replica.last_modified)
    at = len(versions)
    while at > 0 and unix_time_millis(versions[at - 1].last_modified) > time_of:
        at -= 1
    versions.insert(at, replica)
    target.keys.setlist(replica.name, versions)


def patch_moto(queue_of):
    """Makes moto's S3 check, store and show replication as AWS does. `queue_of()` gives the queue once it exists."""

    def put_bucket_replication(self, bucket_name, config):
        bucket = self.get_bucket(bucket_name)
        check(bucket, config)
        bucket.replication = config

    def get_bucket_replication(self):
        config = self.backend.get_bucket_replication(self.bucket_name)
        if not config:
            raise s3_not_found(bucket_name=self.bucket_name)
        shown = {key: value for key, value in config.items() if not key.startswith("@")}
        return xmltodict.unparse({"ReplicationConfiguration": {"@xmlns": NAMESPACE, **shown}})

    from moto.s3.exceptions import ReplicationConfigurationNotFoundError as s3_not_found

    s3.S3Backend.put_bucket_replication = put_bucket_replication
    S3Response.get_bucket_replication = get_bucket_replication

    put_versioning = s3.S3Backend.put_bucket_versioning

    def put_bucket_versioning(self, bucket_name, status):
        if status != "Enabled" and _rules(self.get_bucket(bucket_name)):
            raise Refused(
                "InvalidBucketState",
                "A replication configuration is present on this bucket, so the versioning state cannot be changed.",
            )
        put_versioning(self, bucket_name, status)

    s3.S3Backend.put_bucket_versioning = put_bucket_versioning

    response_dict = s3.FakeKey.response_dict.fget

    def with_status(self):
        shown = response_dict(self)
        state = getattr(self, "replication", None)
        if state:
            shown["x-amz-replication-status"] = state["status"]
        return shown

    s3.FakeKey.response_dict = property(with_status)

    def touching(method, find):
        def call(self, *args, **kwargs):
            result = method(self, *args, **kwargs)
            version = find(self, result, *args, **kwargs)
            if version is not None and queue_of():
                queue_of().touched.add(id(version))
            return result

        return call

    backend = s3.S3Backend
    backend.put_object_tagging = touching(backend.put_object_tagging, lambda _self, result, *_a, **_k: result)
    backend.delete_object_tagging = touching(
        backend.delete_object_tagging,
        lambda self, _result, bucket_name, key_name, version_id=None: self.get_object(
            bucket_name, key_name, version_id=version_id
        ),
    )


def key_of(raw_path):
    """(bucket, key) that an S3 request's path, as it came over the wire, names; each None when absent."""
    bucket, _, key = unquote(raw_path).lstrip("/").partition("/")
    return bucket or None, key or None
