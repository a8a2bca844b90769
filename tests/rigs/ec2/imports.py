"""ImportSnapshot and what goes with it, which moto lacks: an object in S3 becomes a snapshot.

qemu-img judges the object as VM Import would: a disk that it cannot read ends the task with the status
"deleted" and a reason. Source: EC2 API reference, VM Import/Export user guide; the exact words of a
failure are known from reports only.
"""

import os
import pathlib
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field

from ebs_direct import BLOCK_BYTES, Snapshot
from moto.core.responses import ActionResult
from moto.ec2.responses.amis import AmisResponse
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from refusal import ACCOUNT, Refusal

GIB = 1 << 30
FORMATS = {"raw": "raw", "vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"}
STEPS = ((0.0, "pending", 0), (0.1, "downloading/converting", 19), (0.5, "converting", 44),
         (0.8, "preparing snapshot", 76))  # from this share of the time on: message, progress


class BadDisk(Exception):
    """What is wrong with an object, in the words of a task's StatusMessage."""


@dataclass
class Task:
    id: str
    request: dict
    born: float
    size_bytes: int = 0
    failed: str = ""
    snapshot: str = ""
    tags: dict = field(default_factory=dict)


class Imports:
    """The account's import tasks. Called under moto's lock; a thread for each task does the copying."""

    def __init__(self, ebs, make_ec2_snapshot, lock):
        self.ebs, self.make_ec2_snapshot, self.lock = ebs, make_ec2_snapshot, lock
        self.tasks = {}
        self.tokens = {}
        self.secs = 2.0  # how long a task takes at least

    def start(self, request):
        token = request.get("ClientToken")
        known = self.tokens.get(token)
        if known:
            if known.request != request:
                raise Refusal("IdempotentParameterMismatch", "The client token was used with other parameters.")
            return known
        role = request.get("RoleName") or "vmimport"
        roles = [one for one in iam_backends[ACCOUNT]["aws"].roles.values() if one.name == role]
        if not roles or "vmie.amazonaws.com" not in str(roles[0].assume_role_policy_document):
            raise Refusal("InvalidParameter", f"The service role {role} provided does not exist or does not have "
                                              "sufficient permissions")
        container = request.get("DiskContainer") or {}
        if not container.get("UserBucket") and not container.get("Url"):
            raise Refusal("MissingParameter", "The request must contain the parameter DiskContainer.UserBucket")
        if not container.get("UserBucket"):
            raise Refusal("InvalidParameterValue", "The stand-in takes UserBucket only, no Url")
        kind = (container.get("Format") or "").lower()
        if kind and kind not in FORMATS:
            raise Refusal("InvalidParameter", f"Disk format '{container['Format']}' is not supported.")
        task = Task("import-snap-" + uuid.uuid4().hex[:17], request, time.time(), tags=tags_of(request))
        self.tasks[task.id] = task
        if token:
            self.tokens[token] = task
        threading.Thread(target=self.work, args=(task,), daemon=True).start()
        return task

    def work(self, task):
        container = task.request["DiskContainer"]
        folder = self.ebs.folder / task.id
        folder.mkdir()
        try:
            task.size_bytes = fetch(container["UserBucket"], folder / "object", self.lock)
            convert(folder / "object", folder / "disk", (container.get("Format") or "").lower())
            time.sleep(max(0.0, task.born + self.secs - time.time()))
            if not task.failed:
                self.finish(task, folder / "disk")
        except BadDisk as bad:
            task.failed = task.failed or f"ClientError: {bad}"
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    def finish(self, task, disk):
        size_gib = -(-disk.stat().st_size // GIB)
        description = f"Created by AWS-VMImport service for {task.id}"
        with self.lock:
            snapshot_id = self.make_ec2_snapshot(size_gib, description, {})
            snapshot = Snapshot(snapshot_id, size_gib, None, self.ebs.folder / snapshot_id, 0.0)
        copy_blocks(disk, snapshot)
        with self.lock:
            if task.failed:
                return  # cancelled meanwhile
            snapshot.completed = 0.0  # the task ends no sooner than its snapshot is whole
            self.ebs.snapshots[snapshot_id] = snapshot
            task.snapshot = snapshot_id

    def cancel(self, task_id):
        """(state before, state now)"""
        self.describe([task_id])
        task = self.tasks[task_id]
        before = self.shown(task)["SnapshotTaskDetail"]["Status"]
        if before == "completed":
            raise Refusal("IncorrectState", f"The import task {task_id} is already completed")
        task.failed = task.failed or "Cancelled by the user"
        return before, "deleted"

    def describe(self, ids):
        for wanted in ids:
            if wanted not in self.tasks:
                raise Refusal("InvalidConversionTaskId.Malformed", f"Could not find task for id: {wanted}")
        return [self.shown(task) for task in self.tasks.values() if not ids or task.id in ids]

    def shown(self, task):
        container = task.request["DiskContainer"]
        detail = {"DiskImageSize": float(task.size_bytes), "Format": (container.get("Format") or "RAW").upper(),
                  "UserBucket": container["UserBucket"], "Encrypted": False}
        for name in ("Description",):
            if task.request.get(name):
                detail[name] = task.request[name]
        if task.failed:
            detail |= {"Status": "deleted", "StatusMessage": task.failed}
        elif task.snapshot:
            detail |= {"Status": "completed", "SnapshotId": task.snapshot}
        else:
            share = (time.time() - task.born) / max(self.secs, 0.001)
            _, message, progress = [step for step in STEPS if share >= step[0]][-1]
            detail |= {"Status": "active", "StatusMessage": message, "Progress": str(progress)}
        shown = {"ImportTaskId": task.id, "SnapshotTaskDetail": detail,
                 "Tags": [{"Key": key, "Value": value} for key, value in task.tags.items()]}
        return shown | ({"Description": task.request["Description"]} if task.request.get("Description") else {})


def tags_of(request):
    tags = {}
    for specification in request.get("TagSpecifications") or []:
        if specification.get("ResourceType") != "import-snapshot-task":
            raise Refusal("InvalidParameterValue", f"'{specification.get('ResourceType')}' is not a valid taggable "
                                                   "resource type for this operation.")
        tags |= {tag["Key"]: tag["Value"] for tag in specification.get("Tags", [])}
    return tags


def fetch(place, path, lock):
    """Copies an object of the stand-in's own S3 to a file; returns its length."""
    backend = s3_backends[ACCOUNT]["aws"]
    with lock:
        bucket = backend.buckets.get(place["S3Bucket"])
        key = bucket.keys.get(place["S3Key"]) if bucket else None
    if not bucket:
        raise BadDisk("Disk validation failed [We do not have access to the given resource. Reason 404 Not Found]")
    if not key:
        raise BadDisk("Disk validation failed [The given S3 object does not exist]")
    with open(path, "wb") as file:
        offset = 0
        while True:
            with lock:
                buffer = key._value_buffer  # the whole value at once would not fit for a server's disk
                buffer.seek(offset)
                data = buffer.read(8 << 20)
            if not data:
                return offset
            file.write(data)
            offset += len(data)


def convert(source, target, kind):
    """The object as a sparse raw file."""
    if not kind or kind == "raw":
        if source.stat().st_size == 0:
            raise BadDisk("Disk validation failed [The disk image is empty]")
        source_options = f"driver=raw,file.filename={source}"
    else:
        source_options = f"driver={FORMATS[kind]},file.filename={source}"
        if kind == "vhd":
            source_options += ",force_size_calc=current_size"  # VHD's geometry is rounded, its size is not
    done = subprocess.run(["qemu-img", "convert", "-O", "raw", "-S", "4k", "--image-opts", source_options, target],
                          check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BadDisk(f"Disk validation failed [Invalid or unsupported {kind.upper()} image]")


def copy_blocks(disk, snapshot):
    """Puts a sparse file's blocks that hold anything into a snapshot."""
    size = pathlib.Path(disk).stat().st_size
    with open(disk, "rb") as file:
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return
            index = offset // BLOCK_BYTES
            file.seek(index * BLOCK_BYTES)
            data = file.read(BLOCK_BYTES).ljust(BLOCK_BYTES, b"\0")
            if data.count(0) != BLOCK_BYTES:
                snapshot.write(index, data)
            offset = (index + 1) * BLOCK_BYTES


def install(imports):
    """Teaches moto's EC2 the actions."""
    def import_snapshot(self):
        names = ("ClientToken", "Description", "DiskContainer", "RoleName", "TagSpecifications")
        request = {name: self._get_param(name) for name in names if self._get_param(name)}
        self.error_on_dryrun()
        return ActionResult(imports.shown(imports.start(request)))

    def describe_import_snapshot_tasks(self):
        tasks = imports.describe(self._get_param("ImportTaskIds", []) or [])
        return ActionResult({"ImportSnapshotTasks": tasks})

    def cancel_import_task(self):
        task_id = self._get_param("ImportTaskId")
        before, now = imports.cancel(task_id)
        return ActionResult({"ImportTaskId": task_id, "PreviousState": before, "State": now})

    AmisResponse.import_snapshot, AmisResponse.cancel_import_task = import_snapshot, cancel_import_task
    AmisResponse.describe_import_snapshot_tasks = describe_import_snapshot_tasks
