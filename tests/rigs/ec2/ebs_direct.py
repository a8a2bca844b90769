"""The EBS direct APIs as AWS documents them: what moto accepts without looking is checked here.

Blocks lie in a sparse file for each snapshot, so that a server's disk fits. What a snapshot was not
given it has from its parent. Source: AWS "EBS direct APIs" user guide and service model 2019-11-02.
"""

import base64
import hashlib
import json
import pathlib
import re
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

BLOCK_BYTES = 512 * 1024
BLOCKS_PER_GIB = 2048
VOLUME_GIB_MAX = 65_536


class EbsError(Exception):
    def __init__(self, status, kind, message, reason=None):
        super().__init__(f"{kind}: {message}")
        self.status, self.kind, self.message, self.reason = status, kind, message, reason


def invalid(message, reason="INVALID_PARAMETER_VALUE"):
    return EbsError(400, "ValidationException", message, reason)


@dataclass
class Snapshot:
    id: str
    size_gib: int
    parent: "Snapshot | None"
    path: pathlib.Path
    born: float
    digests: dict = field(default_factory=dict)  # index -> raw SHA-256 of its own blocks
    completed: float | None = None  # from this moment on
    failed: str = ""

    def holder(self, index):
        """The snapshot of the lineage that holds a block, or None."""
        snapshot = self
        while snapshot and index not in snapshot.digests:
            snapshot = snapshot.parent
        return snapshot

    def indices(self):
        inherited = self.parent.indices() if self.parent else set()
        return inherited | set(self.digests)

    def digest(self, index):
        holder = self.holder(index)
        return holder.digests[index] if holder else None

    def read(self, index):
        with open(self.holder(index).path, "rb") as file:
            file.seek(index * BLOCK_BYTES)
            return file.read(BLOCK_BYTES)

    def write(self, index, data):
        with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.seek(index * BLOCK_BYTES)
            file.write(data)
        self.digests[index] = hashlib.sha256(data).digest()


class EbsDirect:
    """make_ec2_snapshot(size_gib, description, tags) gives an id that EC2 knows, too."""

    def __init__(self, folder, make_ec2_snapshot):
        self.folder = pathlib.Path(folder)
        self.make_ec2_snapshot = make_ec2_snapshot
        self.snapshots = {}
        self.tokens = {}  # ClientToken -> (request, answer)
        self.complete_s = 0.3  # from CompleteSnapshot to "completed"
        self.visible_after_s = 0.0  # how long a new snapshot is "not found"
        self.page_max = 10_000

    # ---- what EC2 sees

    def state(self, snapshot):
        if snapshot.failed:
            return "error"
        done = snapshot.completed is not None and time.time() >= snapshot.completed
        return "completed" if done else "pending"

    def add_completed(self, snapshot_id, size_gib, parent, changed):
        """A snapshot of a volume: what the volume was made from, and the blocks written since."""
        snapshot = Snapshot(snapshot_id, size_gib, parent, self.folder / snapshot_id, 0.0)
        for index, data in changed.items():
            snapshot.write(index, data)
        snapshot.completed = time.time() + self.complete_s
        self.snapshots[snapshot_id] = snapshot
        return snapshot

    def remove(self, snapshot_id):
        """EC2's DeleteSnapshot: children keep what they share with it."""
        self.snapshots.pop(snapshot_id, None)

    def export(self, snapshot_id, path, size_bytes):
        """The snapshot as a sparse raw file, cut to the disk's size."""
        snapshot = self.snapshots[snapshot_id]
        with open(path, "wb") as file:
            for index in sorted(snapshot.indices()):
                file.seek(index * BLOCK_BYTES)
                file.write(snapshot.read(index))
            file.truncate(size_bytes)

    # ---- the API

    def call(self, method, target, headers, body):
        """(status, headers, body) of one request; raises EbsError."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        routes = (
            ("POST", r"/snapshots", self.start),
            ("PUT", r"/snapshots/([^/]+)/blocks/(\d+)", self.put),
            ("POST", r"/snapshots/completion/([^/]+)", self.complete),
            ("GET", r"/snapshots/([^/]+)/blocks", self.list_blocks),
            ("GET", r"/snapshots/([^/]+)/changedblocks", self.list_changed),
            ("GET", r"/snapshots/([^/]+)/blocks/(\d+)", self.get),
        )
        for wanted, pattern, handler in routes:
            match = re.fullmatch(pattern, url.path)
            if match and method == wanted:
                return handler(*match.groups(), query=query, headers=headers, body=body)
        raise EbsError(404, "UnknownOperationException", f"{method} {url.path}")

    def find(self, snapshot_id):
        snapshot = self.snapshots.get(snapshot_id)
        if not snapshot or time.time() < snapshot.born + self.visible_after_s:
            raise EbsError(404, "ResourceNotFoundException", f"The snapshot '{snapshot_id}' does not exist.",
                           "SNAPSHOT_NOT_FOUND")
        return snapshot

    def find_completed(self, snapshot_id):
        snapshot = self.find(snapshot_id)
        if self.state(snapshot) != "completed":
            raise invalid(f"The snapshot '{snapshot_id}' is not completed.", "INVALID_SNAPSHOT_ID")
        return snapshot

    def start(self, *, query, headers, body):
        request = json.loads(body or b"{}")
        token = request.get("ClientToken")
        if token in self.tokens:
            before, answer = self.tokens[token]
            if before != request:
                raise EbsError(409, "ConflictException", "The client token was used with other parameters.")
            return 201, [], answer
        size = request.get("VolumeSize")
        if not isinstance(size, int) or not 1 <= size <= VOLUME_GIB_MAX:
            raise invalid("VolumeSize must be 1 to 65536 GiB", "INVALID_VOLUME_SIZE")
        if not 10 <= request.get("Timeout", 60) <= 4320:
            raise invalid("Timeout must be 10 to 4320 minutes")
        if len(request.get("Tags", [])) > 50:
            raise invalid("At most 50 tags", "INVALID_TAG")
        parent = None
        if request.get("ParentSnapshotId"):
            if request.get("Encrypted") is not None:
                raise invalid("Encrypted and ParentSnapshotId exclude each other")
            parent = self.find_completed(request["ParentSnapshotId"])
            if size < parent.size_gib:
                raise invalid("VolumeSize is less than the parent's", "INVALID_VOLUME_SIZE")
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        snapshot_id = self.make_ec2_snapshot(size, request.get("Description", ""), tags)
        self.snapshots[snapshot_id] = Snapshot(snapshot_id, size, parent, self.folder / snapshot_id, time.time())
        answer = {"SnapshotId": snapshot_id, "Status": "pending", "VolumeSize": size, "BlockSize": BLOCK_BYTES,
                  "StartTime": time.time(), "Tags": request.get("Tags", [])}
        if parent:
            answer["ParentSnapshotId"] = parent.id
        if token:
            self.tokens[token] = (request, answer)
        return 201, [], answer

    def put(self, snapshot_id, index, *, query, headers, body):
        snapshot, index = self.find(snapshot_id), int(index)
        if snapshot.completed is not None or snapshot.failed:
            raise invalid("The snapshot is not pending", "INVALID_SNAPSHOT_ID")
        if headers.get("x-amz-data-length") != str(BLOCK_BYTES) or len(body) != BLOCK_BYTES:
            raise invalid("A block has 524288 bytes", "INVALID_BLOCK")
        if index >= snapshot.size_gib * BLOCKS_PER_GIB:
            raise invalid("The block's index is outside of the volume", "INVALID_BLOCK")
        if headers.get("x-amz-checksum-algorithm") != "SHA256":
            raise invalid("x-amz-checksum-algorithm must be SHA256")
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if headers.get("x-amz-checksum") != checksum:
            raise invalid("The checksum does not fit the data")
        snapshot.write(index, body)
        return 201, [("x-amz-Checksum", checksum), ("x-amz-Checksum-Algorithm", "SHA256")], {}

    def complete(self, snapshot_id, *, query, headers, body):
        snapshot = self.find(snapshot_id)
        count = headers.get("x-amz-changedblockscount")
        if count is None or not count.isdigit():
            raise invalid("x-amz-ChangedBlocksCount is missing")
        if snapshot.completed is not None:
            return 202, [], {"Status": self.state(snapshot)}
        if int(count) != len(snapshot.digests):
            raise invalid(f"ChangedBlocksCount is {count}, but {len(snapshot.digests)} blocks were put")
        if "x-amz-checksum" in headers:
            if headers.get("x-amz-checksum-aggregation-method") != "LINEAR":
                raise invalid("A checksum needs the aggregation method LINEAR")
            whole = hashlib.sha256(b"".join(digest for _, digest in sorted(snapshot.digests.items())))
            if headers["x-amz-checksum"] != base64.b64encode(whole.digest()).decode():
                raise invalid("The aggregated checksum does not fit")
        snapshot.completed = time.time() + self.complete_s
        return 202, [], {"Status": "pending"}

    def list_blocks(self, snapshot_id, *, query, headers, body):
        snapshot = self.find_completed(snapshot_id)
        blocks = [{"BlockIndex": index, "BlockToken": self.token(snapshot, index)}
                  for index in sorted(snapshot.indices())]
        return 200, [], self.page(blocks, "Blocks", query, snapshot)

    def list_changed(self, snapshot_id, *, query, headers, body):
        second = self.find_completed(snapshot_id)
        first = self.find_completed(query["firstSnapshotId"]) if "firstSnapshotId" in query else None
        if first and not self.related(first, second):
            raise invalid("The snapshots are of different lineages", "UNRELATED_SNAPSHOTS")
        before = first.indices() if first else set()
        changed = []
        for index in sorted(before | second.indices()):
            old = first.digest(index) if first else None
            if old == second.digest(index):
                continue
            entry = {"BlockIndex": index}
            if old is not None:
                entry["FirstBlockToken"] = self.token(first, index)
            if second.digest(index) is not None:
                entry["SecondBlockToken"] = self.token(second, index)
            changed.append(entry)
        return 200, [], self.page(changed, "ChangedBlocks", query, second)

    def get(self, snapshot_id, index, *, query, headers, body):
        snapshot, index = self.find_completed(snapshot_id), int(index)
        if query.get("blockToken") != self.token(snapshot, index):
            raise invalid("The block token is not valid", "INVALID_BLOCK_TOKEN")
        if snapshot.holder(index) is None:
            raise invalid("The snapshot has no such block", "INVALID_BLOCK")
        data = snapshot.read(index)
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return 200, [("x-amz-Data-Length", str(len(data))), ("x-amz-Checksum", checksum),
                     ("x-amz-Checksum-Algorithm", "SHA256")], data

    @staticmethod
    def related(first, second):
        def root(snapshot):
            while snapshot.parent:
                snapshot = snapshot.parent
            return snapshot
        return root(first) is root(second)

    @staticmethod
    def token(snapshot, index):
        """Opaque, with the characters that real ones have and careless clients do not escape."""
        digest = hashlib.sha256(f"{snapshot.id}/{index}".encode()).digest()
        return base64.b64encode(b"\xff\xfe" + digest[:25]).decode()

    def page(self, entries, name, query, snapshot):
        """Every second page is empty but for its NextToken, which AWS may do at any time."""
        most = int(query.get("maxResults", "10000"))
        if not 100 <= most <= 10_000:
            raise invalid("MaxResults must be 100 to 10000")
        start, empty = int(query.get("startingBlockIndex", "0")), False
        if "pageToken" in query:
            start, flag = json.loads(base64.b64decode(query["pageToken"]))
            empty = bool(flag)
        left = [entry for entry in entries if entry["BlockIndex"] >= start]
        shown = [] if empty else left[: min(most, self.page_max)]
        answer = {name: shown, "BlockSize": BLOCK_BYTES, "VolumeSize": snapshot.size_gib,
                  "ExpiryTime": time.time() + 7 * 86400}
        rest = left[len(shown):]
        if rest:
            token = [rest[0]["BlockIndex"], 0 if empty else 1]
            answer["NextToken"] = base64.b64encode(json.dumps(token).encode()).decode()
        return answer
