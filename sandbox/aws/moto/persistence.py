"""Keeps moto's state in an SQLite file, so that no acknowledged request is lost when moto is killed.

moto holds everything in memory. After each request that changed something, and before it is answered, what
changed is written in one transaction:
  * S3: one row a bucket, one row a key (all its versions and their tags), one row a bucket's multipart uploads.
    Bodies over 64 KiB are files of their own, written once, so that a row stays small.
  * every other service: one row a backend (service, account, region), pickled whole, but for EC2's machine images and
    snapshots: the sandbox has none of its own.
A process that is killed loses nothing that it answered. A machine that loses power may lose the last transactions:
the file is not flushed to the disk at each one.
"""

import hashlib
import io
import os
import pickle
import sqlite3
import threading
import uuid

from moto import backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.common_models import BaseModel
from moto.ec2.models import EC2Backend
from moto.s3 import models as s3

IN_MEMORY_LIMIT = 64 * 1024


class Body:
    """An object's content: in memory while small, else a file. Stands where moto uses a SpooledTemporaryFile."""

    folder = ""
    # Files that no version needs any more; removed once the transaction that dropped them is written.
    dropped: list[str] = []

    def __init__(self, *_args, **_kwargs):
        self._memory = b""
        self._file = None
        self._position = 0
        self._closed = False

    def seek(self, position):
        self._check()
        self._position = position

    def truncate(self):
        self._check()
        self._drop_file()
        self._memory = b""

    def write(self, data):
        self._check()
        if self._position != 0 or self._memory or self._file:
            raise ValueError("a body is written once")
        if len(data) <= IN_MEMORY_LIMIT:
            self._memory = bytes(data)
        else:
            name = uuid.uuid4().hex
            with open(os.path.join(Body.folder, name), "wb") as out:
                out.write(data)
            self._file = name

    def read(self, size=-1):
        self._check()
        if self._file is None:
            data = self._memory[self._position :] if size < 0 else self._memory[self._position : self._position + size]
        else:
            with open(os.path.join(Body.folder, self._file), "rb") as source:
                source.seek(self._position)
                data = source.read(size)
        self._position += len(data)
        return data

    def close(self):
        if not self._closed:
            self._drop_file()
            self._memory = b""
            self._closed = True

    def _drop_file(self):
        if self._file is not None:
            Body.dropped.append(self._file)
            self._file = None

    def _check(self):
        if self._closed:
            raise ValueError("I/O operation on closed file")

    def copy(self):
        """The same content, apart from this one: what a replica gets."""
        other = Body()
        self.seek(0)
        other.write(self.read())
        return other


class _BodyModule:
    """What moto.s3.models sees as the module `tempfile`."""

    SpooledTemporaryFile = Body


def _key_getstate(self):
    state = self.__dict__.copy()
    del state["lock"]
    return state


def _key_setstate(self, state):
    self.__dict__.update(state)
    self.lock = threading.Lock()


def _key_deepcopy(self, _memo):
    # moto deep-copies every version of a bucket to list it; the content need not be copied for that.
    other = object.__new__(type(self))
    other.__dict__.update(self.__dict__)
    return other


def patch_moto():
    """Changes to moto's classes that persistence needs. Call once, before any request."""
    # moto keeps every model object ever made, for its dashboard: that would hold every object's content for ever.
    BaseModel.__new__ = lambda cls, *_args, **_kwargs: object.__new__(cls)
    s3.tempfile = _BodyModule
    s3.FakeKey.__getstate__ = _key_getstate
    s3.FakeKey.__setstate__ = _key_setstate
    s3.FakeKey.__deepcopy__ = _key_deepcopy
    # Listings make copies that share the content: only an explicit dispose() may drop it.
    s3.FakeKey.__del__ = lambda self: None


class _Pickler(pickle.Pickler):
    """Writes what one backend (the root) holds, with backends by name: the root itself as well as others."""

    def __init__(self, out, root, names):
        super().__init__(out, protocol=5)
        self._root = root
        self._names = names

    def persistent_id(self, obj):
        if isinstance(obj, BaseBackend):
            return self._names[id(obj)]
        if isinstance(obj, BackendDict):
            return ("dict", obj.service_name)
        for built_in in ("amis", "snapshots") if isinstance(self._root, EC2Backend) else ():
            if obj is getattr(self._root, built_in, self):
                return ("ec2", self._root.account_id, self._root.region_name, built_in)
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, source, find):
        super().__init__(source)
        self._find = find

    def persistent_load(self, pid):
        return self._find(pid)


def s3_backend():
    return s3.s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


class Store:
    """The SQLite file. All calls are made with the server's lock held."""

    def __init__(self, folder):
        self.folder = folder
        Body.folder = os.path.join(folder, "bodies")
        os.makedirs(Body.folder, exist_ok=True)
        self.db = sqlite3.connect(os.path.join(folder, "moto.db"), check_same_thread=False, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.executescript(
            """
            CREATE TABLE IF NOT EXISTS backends (service TEXT, account TEXT, region TEXT, state BLOB,
              PRIMARY KEY (service, account, region));
            CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, state BLOB, multiparts BLOB);
            CREATE TABLE IF NOT EXISTS keys (bucket TEXT, key TEXT, state BLOB, PRIMARY KEY (bucket, key));
            """
        )
        self.digests = {}
        self.dirty = set()
        self._watch_keys()
        self._load()

    def _watch_keys(self):
        """Notes which keys of which bucket each request changes."""
        dirty = self.dirty

        def watched(method):
            def call(store, key, *args):
                dirty.add((getattr(store, "bucket_name", None), key))
                return method(store, key, *args)

            return call

        for name in ("__setitem__", "setlist", "pop"):
            setattr(s3._VersionedKeyStore, name, watched(getattr(s3._VersionedKeyStore, name)))

        make_bucket = s3.FakeBucket.__init__

        def init(bucket, name, *args, **kwargs):
            make_bucket(bucket, name, *args, **kwargs)
            bucket.keys.bucket_name = name

        s3.FakeBucket.__init__ = init

    # -- loading

    def _find(self, pid):
        if pid[0] == "dict":
            return backends.get_backend(pid[1])
        if len(pid) == 4:
            return getattr(self._find(pid[:3]), pid[3])
        service, account, region = pid
        return backends.get_backend(service)[account][region]

    def _loads(self, blob):
        return _Unpickler(io.BytesIO(blob), self._find).load()

    def _load(self):
        for service, account, region, blob in self.db.execute("SELECT * FROM backends").fetchall():
            regional = backends.get_backend(service)[account]
            # Other backends may already refer to a fresh one of this name: keep the object, change what it holds.
            regional[region].__dict__ = self._loads(blob)
            self.digests[(service, account, region)] = hashlib.sha256(blob).digest()
        backend = s3_backend()
        for name, blob, multiparts in self.db.execute("SELECT name, state, multiparts FROM buckets").fetchall():
            bucket, tags = self._loads(blob)
            bucket.keys = s3._VersionedKeyStore()
            bucket.keys.bucket_name = name
            bucket.multiparts = self._loads(multiparts)
            backend.buckets[name] = bucket
            backend.tagger.tags.update(tags)
            s3.s3_backends.bucket_accounts[name] = (bucket.partition, bucket.account_id)
            self.digests[name] = hashlib.sha256(blob).digest()
            self.digests[(name,)] = hashlib.sha256(multiparts).digest()
        for name, key, blob in self.db.execute("SELECT bucket, key, state FROM keys").fetchall():
            versions, tags = self._loads(blob)
            dict.__setitem__(backend.buckets[name].keys, key, versions)
            backend.tagger.tags.update(tags)
        self.dirty.clear()
        self._remove_orphans()

    def _remove_orphans(self):
        """Removes files of requests that were never answered."""
        used = set()
        for bucket in s3_backend().buckets.values():
            for versions in dict.values(bucket.keys):
                used.update(v._value_buffer._file for v in versions if isinstance(v, s3.FakeKey))
            for upload in bucket.multiparts.values():
                used.update(part._value_buffer._file for part in upload.parts.values())
        for name in os.listdir(Body.folder):
            if name not in used:
                os.unlink(os.path.join(Body.folder, name))

    # -- saving

    def _dumps(self, obj, root, names):
        out = io.BytesIO()
        _Pickler(out, root, names).dump(obj)
        return out.getvalue()

    def _names(self):
        return {
            id(backend): (found.service_name, account, region)
            for found in BackendDict._instances
            for account, region, backend in found.iter_backends()
        }

    def save(self, service, changed, bucket_name=None, key_name=None):
        """Writes what a request changed. `changed`: whether the request can change what exists already."""
        names = self._names()
        # A backend is made, with random ids in it, when a region is first asked for anything.
        new = [n for n in names.values() if n[0] != "s3" and n not in self.digests]
        if not changed and not new and not self.dirty:
            return
        self.db.execute("BEGIN")
        try:
            self._save_backends(service, names, new)
            if service == "s3":
                self._save_s3(names, bucket_name, key_name)
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.dirty.clear()
        for name in Body.dropped:
            try:
                os.unlink(os.path.join(Body.folder, name))
            except FileNotFoundError:
                pass
        Body.dropped.clear()

    def _save_backends(self, service, names, new):
        for name in names.values():
            if name[0] == "s3" or (service == "s3" and name not in new):
                continue
            backend = self._find(name)
            blob = self._dumps(backend.__dict__, backend, names)
            digest = hashlib.sha256(blob).digest()
            if self.digests.get(name) != digest:
                self.db.execute("REPLACE INTO backends VALUES (?, ?, ?, ?)", (*name, blob))
                self.digests[name] = digest

    def _save_s3(self, names, bucket_name, key_name):
        backend = s3_backend()
        if bucket_name and key_name:
            self.dirty.add((bucket_name, key_name))
        touched = {b for b, _ in self.dirty if b} | ({bucket_name} if bucket_name else set())
        for name in touched:
            bucket = backend.buckets.get(name)
            if bucket is None:
                self.db.execute("DELETE FROM buckets WHERE name = ?", (name,))
                self.db.execute("DELETE FROM keys WHERE bucket = ?", (name,))
                self.digests.pop(name, None)
                self.digests.pop((name,), None)
                continue
            self._save_bucket(bucket, backend, names)
        for name, key in self.dirty:
            bucket = backend.buckets.get(name)
            if bucket is None:
                continue
            versions = bucket.keys.getlist(key)
            if not versions:
                self.db.execute("DELETE FROM keys WHERE bucket = ? AND key = ?", (name, key))
                continue
            arns = [v.arn for v in versions if isinstance(v, s3.FakeKey)]
            tags = {arn: backend.tagger.tags[arn] for arn in arns if arn in backend.tagger.tags}
            self.db.execute(
                "REPLACE INTO keys VALUES (?, ?, ?)", (name, key, self._dumps((versions, tags), backend, names))
            )

    def _save_bucket(self, bucket, backend, names):
        keys, multiparts = bucket.keys, bucket.multiparts
        bucket.keys = bucket.multiparts = None
        try:
            tags = {bucket.arn: backend.tagger.tags[bucket.arn]} if bucket.arn in backend.tagger.tags else {}
            blob = self._dumps((bucket, tags), backend, names)
            parts = self._dumps(multiparts, backend, names)
        finally:
            bucket.keys, bucket.multiparts = keys, multiparts
        digest, parts_digest = hashlib.sha256(blob).digest(), hashlib.sha256(parts).digest()
        if self.digests.get(bucket.name) != digest or self.digests.get((bucket.name,)) != parts_digest:
            self.db.execute("REPLACE INTO buckets VALUES (?, ?, ?)", (bucket.name, blob, parts))
            self.digests[bucket.name] = digest
            self.digests[(bucket.name,)] = parts_digest
