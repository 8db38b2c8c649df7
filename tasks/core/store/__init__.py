"""The artifact store of DESIGN §2: fingerprints, records, verified hits, one atomic publication, a lock."""

from tasks.core.store.code_hash import code_hash
from tasks.core.store.disk import disk_errors
from tasks.core.store.fingerprint import canonical_json, fingerprint_of, identity_of
from tasks.core.store.lock import Lock, LockLost
from tasks.core.store.provenance import collect_provenance
from tasks.core.store.record import DamagedRecord, Record, read_record
from tasks.core.store.runs import Run, RunStage
from tasks.core.store.store import Hit, Miss, Store, check_writable, store_root

__all__ = [
    "DamagedRecord",
    "Hit",
    "Lock",
    "LockLost",
    "Miss",
    "Record",
    "Run",
    "RunStage",
    "Store",
    "canonical_json",
    "check_writable",
    "code_hash",
    "collect_provenance",
    "disk_errors",
    "fingerprint_of",
    "identity_of",
    "read_record",
    "store_root",
]
