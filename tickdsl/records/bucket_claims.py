"""Claims on steps in a bucket, so that machines that share nothing else do not compute the same step.

    URL/claims/KEY     which process works on the step with this key, and how often it has said so

A claim is created on the condition that there is none, and renewed or taken over on the condition that it is still the
one that was seen. Like claims in a folder, it saves work but is no lock, and expires when its process has died on this
host, or when others have seen no renewal for a while: by observed change, since the clocks of machines differ.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.bucket import Bucket
from tickdsl.records.folders import owner_is_dead
from tickdsl.records.process import Process

_EXPIRY_SECONDS = 180.0
#: How often a claim is renewed, and how often those of others are looked at.
_RENEWAL_SECONDS = 20.0
_LOOK_SECONDS = 2.0
#: For how long after a renewal nobody else can have taken a claim over, so that deleting it deletes our own.
_SURE_SECONDS = 60.0
_FOLDER = "claims"


@attrs.frozen
class _Claim:
    holder: str
    beat: int = 0
    note: str = ""

    def encode(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode()

    @classmethod
    def decode(cls, text: bytes) -> _Claim:
        """A claim from its text; one of nobody if that is none, which anyone may take over."""
        try:
            content = json.loads(text)
            return cls(str(content["holder"]), int(content["beat"]), str(content["note"]))
        except (ValueError, KeyError, TypeError):
            return cls("")

    def describe(self) -> str:
        process = Process.from_token(self.holder)
        description = f"process {process.pid} on {process.host}" if process is not None else "another run"
        return f"{description}, {self.note}" if self.note else description


@attrs.define
class _Held:
    etag: str
    claim: _Claim
    renewed: float


class BucketClaims:
    """The claims in a bucket; see `StepClaims` for the methods.

    Claims are renewed and released without the patience of `bucket`: a later renewal may get through.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._hasty = Bucket(bucket.url)
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()  # the claims are renewed in a thread of their own
        self._changed: dict[str, tuple[str, float]] = {}  # by key: the version last seen, and since when, on our clock
        self._watched = float("-inf")
        self._looked: dict[str, tuple[float, str]] = {}  # by key: when a holder was found, and its description

    def acquire(self, key: str) -> str | None:
        """Claim `key`; returns None if this process has the claim now, else a description of its holder."""
        with self._lock:
            if key in self._held:
                return None
            looked, holder = self._looked.get(key, (float("-inf"), ""))
            if time.monotonic() - looked < _LOOK_SECONDS:
                return holder
            mine = _Claim(Process.current().token)
            path = _path(key)
            while True:
                etag = self._bucket.create(path, mine.encode())
                if etag is None:
                    found = self._bucket.get(path)
                    if found is None:  # given up just now
                        continue
                    claim = _Claim.decode(found[0])
                    if not self._may_be_taken(key, claim, found[1]):
                        self._looked[key] = time.monotonic(), claim.describe()
                        return claim.describe()
                    mine = attrs.evolve(mine, beat=claim.beat + 1)
                    etag = self._bucket.replace(path, mine.encode(), found[1])
                if etag is not None:
                    break
            self._held[key] = _Held(etag, mine, time.monotonic())
            self._looked.pop(key, None)
        return None

    def release(self, key: str) -> None:
        """Give up the claim on `key` if this process has it."""
        with self._lock:
            held = self._held.pop(key, None)
            if held is not None:
                with contextlib.suppress(TickdslError):  # it expires with this process
                    if time.monotonic() - held.renewed < _SURE_SECONDS:
                        self._hasty.delete([_path(key)])
                    else:
                        self._hasty.replace(_path(key), _Claim("", held.claim.beat + 1).encode(), held.etag)

    def release_all(self) -> None:
        """Give up all claims of this process."""
        for key in tuple(self._held):
            self.release(key)

    def set_note(self, note: str) -> None:
        """Tell others something about the process of the claims that are held now; an empty note takes it back."""
        with self._lock, contextlib.suppress(TickdslError):
            for key in tuple(self._held):
                self._renew(key, note)

    def renew(self) -> None:
        """Renew the claims of this process that are due. Thread-safe."""
        with self._lock, contextlib.suppress(TickdslError):  # the next renewal may get through
            for key, held in tuple(self._held.items()):
                if time.monotonic() - held.renewed >= _RENEWAL_SECONDS:
                    self._renew(key, held.claim.note)

    def sweep(self) -> None:
        """Begin to watch the claims of others."""
        self._watch()

    def _renew(self, key: str, note: str) -> None:
        held = self._held[key]
        claim = attrs.evolve(held.claim, beat=held.claim.beat + 1, note=note)
        etag = self._hasty.replace(_path(key), claim.encode(), held.etag)
        if etag is None:  # another process has taken it over
            del self._held[key]
        else:
            self._held[key] = _Held(etag, claim, time.monotonic())

    def _may_be_taken(self, key: str, claim: _Claim, etag: str) -> bool:
        """Whether a claim is ours, of nobody, of a dead process, or was not renewed for long."""
        if claim.holder in ("", Process.current().token) or owner_is_dead(claim.holder):
            return True
        if time.monotonic() - self._watched >= _RENEWAL_SECONDS:
            self._watch()
        return time.monotonic() - self._note(key, etag) > _EXPIRY_SECONDS

    def _watch(self) -> None:
        """Note which claims have changed since the last look."""
        found = {claim.path.rpartition("/")[2]: claim.etag for claim in self._bucket.objects(_FOLDER)}
        for key, etag in found.items():
            self._note(key, etag)
        for key in self._changed.keys() - found.keys():
            del self._changed[key]
        self._watched = time.monotonic()

    def _note(self, key: str, etag: str) -> float:
        """When a claim was first seen in this version."""
        version, _ = self._changed.get(key, ("", 0.0))
        if version != etag:
            self._changed[key] = etag, time.monotonic()
        return self._changed[key][1]


def _path(key: str) -> str:
    return f"{_FOLDER}/{key}"
