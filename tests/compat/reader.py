#!/usr/bin/env python3
"""Reads a folder repository, written from docs/format.md alone: nothing of ReClo's is used.

  reader.py REPO --code-file F                                   lists the recovery points
  reader.py REPO --code-file F --point latest --disk 0 --to OUT  restores a disk
  reader.py REPO --passphrase-file F ...                         the same with a passphrase

POINT is an id, the beginning of one, `latest` or `latest:SERVER`. Section numbers in comments are
those of docs/format.md. Needs pynacl, argon2-cffi, cryptography and zstandard.
"""
import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import struct
import sys

import argon2.low_level
import nacl.bindings
import nacl.exceptions
import nacl.public
import nacl.signing
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PAGE = 4096
SEGMENT_PAGES = 1024
SEGMENT = PAGE * SEGMENT_PAGES
PACK_MAX = 64 << 20
NODE_MAX = 256 << 10
RECORD_MAX = 4 << 20
MIB = 1 << 20


class Damaged(Exception):
    pass


def need(condition, why):
    if not condition:
        raise Damaged(why)


# ---- keys and hashes (section 5)

def hkdf(key, info):
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def aes_open(key, counter, sealed, associated):
    nonce = bytes(4) + struct.pack(">Q", counter)
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        raise Damaged("authentication failed") from None


def short_hmac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()[:16]


def gmac(cipher, message):
    """AES-256-GCM's tag of nothing but associated data, nonce zero; never all zeros."""
    tag = cipher.encrypt(bytes(12), b"", message)
    return tag if any(tag) else b"\x01" + bytes(15)


class Identities:
    """Section 5.3."""

    def __init__(self, map_key):
        self.page_cipher = AESGCM(hkdf(map_key, b"reclo/1 page tag"))
        self.chunk_key = hkdf(map_key, b"reclo/1 chunk id")
        self.node_key = hkdf(map_key, b"reclo/1 node id")

    def chunk(self, content):
        tags = [gmac(self.page_cipher, content[at:at + PAGE]) for at in range(0, len(content), PAGE)]
        return short_hmac(self.chunk_key, b"".join(tags))

    def node(self, encoded):
        return short_hmac(self.node_key, encoded)


# ---- records (section 3)

def parse_record(text, repository=None):
    need(len(text) <= RECORD_MAX, "a record that is too long")
    try:
        record = json.loads(text)
    except ValueError:
        raise Damaged("a record that is not JSON") from None
    need(isinstance(record, dict), "a record that is no object")
    version = record.get("format")
    need(version == 1, f"format {version!r} is not known to this reader")
    if repository is not None:
        need(record["repository"] == repository.hex(), "a record of another repository")
    return record


def open_envelope(text):
    envelope = json.loads(text)
    return (base64.b64decode(envelope["payload"], validate=True),
            base64.b64decode(envelope["signature"], validate=True))


def verify_signature(key, payload, signature):
    try:
        nacl.signing.VerifyKey(key).verify(payload, signature)
    except (nacl.exceptions.BadSignatureError, ValueError):
        raise Damaged("a wrong signature") from None


def check_of(record, private_key):
    """Section 3.1."""
    plain = {name: value for name, value in record.items() if name != "check"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    key = hkdf(private_key, b"reclo/1 record check")
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


# ---- unlocking (sections 3.3, 3.4)

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def secret_of_code(text):
    """The 20 secret bytes of a recovery code, or None when it does not look like one."""
    digits = re.sub(r"[-\s]", "", text).upper().translate(str.maketrans("OIL", "011"))
    if len(digits) != 36 or any(digit not in ALPHABET for digit in digits):
        return None
    number = 0
    for digit in digits[:32]:
        number = number << 5 | ALPHABET.index(digit)
    secret = number.to_bytes(20, "big")
    digest = hashlib.sha256(b"reclo/1 recovery code check" + secret).digest()
    bits = int.from_bytes(digest[:3], "big") >> 4
    check = "".join(ALPHABET[bits >> shift & 31] for shift in (15, 10, 5, 0))
    need(check == digits[32:], "the recovery code is mistyped")
    return secret


def words_key(slot, words):
    if slot["kind"] == "recovery-code":
        secret = secret_of_code(words)
        return None if secret is None else hkdf(secret + bytes(12), b"reclo/1 recovery code")
    need(slot["kind"] == "passphrase", "an unknown kind of key slot")
    argon = slot["argon2id"]
    need(8 * MIB <= argon["memory_bytes"] <= 4096 * MIB and 1 <= argon["passes"] <= 16,
         "a key slot with parameters outside the allowed range")
    return argon2.low_level.hash_secret_raw(
        secret=words.encode(), salt=base64.b64decode(argon["salt"]), time_cost=argon["passes"],
        memory_cost=argon["memory_bytes"] // 1024, parallelism=1, hash_len=32,
        type=argon2.low_level.Type.ID, version=0x13)


class Repository:
    def __init__(self, folder):
        self.folder = folder
        self.config = parse_record(self.get("reclo.json"))
        self.id = bytes.fromhex(self.config["repository"])
        self.private_key = None

    def get(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def get_range(self, name, offset, length):
        with open(os.path.join(self.folder, name), "rb") as file:
            file.seek(offset)
            content = file.read(length)
        need(len(content) == length, f"{name} is cut off")
        return content

    def children(self, name):
        path = os.path.join(self.folder, name)
        return sorted(os.listdir(path)) if os.path.isdir(path) else []

    def unlock(self, words):
        public_key = base64.b64decode(self.config["public_key"])
        slots = [parse_record(self.get(f"keys/{name}"), self.id)
                 for name in self.children("keys") if name.endswith(".json")]
        for slot in sorted(slots, key=lambda slot: slot["kind"] != "recovery-code"):
            key = words_key(slot, words)
            if key is None:
                continue
            wrapping = hkdf(key, b"reclo/1 key slot" + self.id + slot["slot"].encode())
            try:
                private = aes_open(wrapping, 0, base64.b64decode(slot["wrapped_key"]), None)
            except Damaged:
                continue
            need(nacl.bindings.crypto_scalarmult_base(private) == public_key,
                 "the unlocked key does not fit reclo.json")
            for record in [self.config] + slots:
                need(hmac.compare_digest(check_of(record, private),
                                         base64.b64decode(record["check"])),
                     "reclo.json or a key slot was changed")
            self.private_key = private
            return
        raise Damaged("no key slot opens with these words")

    def open_sealed(self, sealed):
        box = nacl.public.SealedBox(nacl.public.PrivateKey(self.private_key))
        try:
            return box.decrypt(sealed)
        except nacl.exceptions.CryptoError:
            raise Damaged("a sealed key does not open") from None


class Machine:
    def __init__(self, repository, machine):
        self.repository = repository
        self.id = bytes.fromhex(machine)
        self.folder = f"machines/{machine}"
        payload, signature = open_envelope(repository.get(f"{self.folder}/machine.json"))
        self.record = parse_record(payload, repository.id)
        self.signing_key = base64.b64decode(self.record["signing_key"])
        verify_signature(self.signing_key, payload, signature)
        need(self.record["machine"] == machine, "a swapped machine.json")
        self.map_key = repository.open_sealed(base64.b64decode(self.record["sealed_map_key"]))
        self.identities = Identities(self.map_key)
        self.data_keys = {}

    def points(self):
        """Section 3.7, ascending; says on stderr where the chain is broken."""
        points = []
        for session in self.repository.children(f"{self.folder}/sessions"):
            name = f"{self.folder}/sessions/{session}/end"
            if not os.path.exists(os.path.join(self.repository.folder, name)):
                continue
            text = self.repository.get(name)
            if text in (b"fenced\n", b"closed\n"):
                continue
            payload, signature = open_envelope(text)
            point = parse_record(payload, self.repository.id)
            verify_signature(self.signing_key, payload, signature)
            need(point["session"] == session and point["machine"] == self.id.hex(),
                 f"{name} was swapped")
            point["digest"] = hashlib.sha256(text).hexdigest()
            points.append(point)
        points.sort(key=lambda point: point["sequence"])
        before = {"sequence": 0, "session": None, "digest": ""}
        for point in points:
            if (point["sequence"] != before["sequence"] + 1
                    or point["previous"] != before["session"]
                    or point["previous_digest"] != before["digest"]):
                print(f"warning: the chain is broken before {point['session']}", file=sys.stderr)
            before = point
        return points

    # ---- packs (section 4)

    def pack_name(self, session, number):
        return f"{self.folder}/packs/{session.hex()}/{number:08x}"

    def read_slot(self, key, at, identity):
        session, number, slot, offset, stored = at
        sealed = self.repository.get_range(self.pack_name(session, number), offset, stored)
        associated = (self.repository.id + session + struct.pack("<IH", number, slot) + identity)
        return decode_payload(aes_open(key, slot, sealed, associated))

    def data_key(self, session, number):
        run = (session, number >> 24)
        if run not in self.data_keys:
            others = [int(name, 16) for name in
                      self.repository.children(f"{self.folder}/packs/{session.hex()}")
                      if re.fullmatch("[0-9a-f]{8}", name)]
            candidates = [number] + [n for n in others if n >> 24 == run[1] and n != number]
            for candidate in candidates:
                try:
                    self.data_keys[run] = self.data_key_in(session, candidate)
                    break
                except Damaged as why:
                    reason = why
            else:
                raise reason
        return self.data_keys[run]

    def data_key_in(self, session, number):
        name = self.pack_name(session, number)
        header = self.repository.get_range(name, 0, 512)
        magic, version, kind, cipher = struct.unpack_from("<8sHBB", header)
        need(magic == b"RCLOPACK", f"{name} is no pack")
        need(version == 1 and cipher == 1, f"{name} needs a newer reader")
        need(header[12:64] == self.repository.id + self.id + session + struct.pack("<I", number),
             f"{name} was swapped")
        need(kind == 1, f"{name} is no data pack")
        (count,) = struct.unpack_from("<H", header, 64)
        need(count <= 4, f"{name} has a malformed header")
        for i in range(count):
            (size,) = struct.unpack_from("<H", header, 66 + 82 * i)
            need(size == 80, f"{name} has a malformed header")
            try:
                return self.repository.open_sealed(header[68 + 82 * i:148 + 82 * i])
            except Damaged:
                pass
        raise Damaged(f"{name} has no data key for us")

    def read_node(self, at, identity):
        session, number = at[:2]
        key = hkdf(self.map_key, b"reclo/1 map pack" + session + struct.pack("<I", number))
        node = self.read_slot(key, at, identity)
        need(len(node) <= NODE_MAX and self.identities.node(node) == identity,
             "a node that is not what its reference says")
        return node

    def read_chunk(self, at, identity, pages):
        session, number = at[:2]
        key = hkdf(self.data_key(session, number),
                   b"reclo/1 data pack" + session + struct.pack("<I", number))
        content = self.read_slot(key, at, identity)
        need(len(content) == pages * PAGE and self.identities.chunk(content) == identity,
             "a chunk that is not what its reference says")
        return content

    # ---- the map (section 6)

    def leaves(self, root, height):
        """Yields (segment, leaf) of a disk's map."""
        if root is not None:
            at = (bytes.fromhex(root["session"]), root["pack"], root["slot"], root["offset"],
                  root["stored"])
            yield from self.leaves_below(at, bytes.fromhex(root["id"]), height, 0)

    def leaves_below(self, at, identity, level, first_segment):
        node = self.read_node(at, identity)
        if level == 0:
            yield first_segment, decode_leaf(node)
            return
        for index, child_id, child_at in decode_inner_node(node, level):
            yield from self.leaves_below(child_at, child_id, level - 1,
                                         first_segment + index * 256 ** (level - 1))

    def restore(self, disk, out):
        out.truncate(disk["size_bytes"])
        height = 0
        while 256 ** height * SEGMENT < disk["size_bytes"]:
            height += 1
        need(disk["map_height"] == height, "a disk whose map has the wrong height")
        for segment, (chunks, extents) in self.leaves(disk["map_root"], height):
            contents = {}
            for first_page, pages, chunk, chunk_page in extents:
                if chunk not in contents:
                    contents[chunk] = self.read_chunk(*chunks[chunk])
                start = segment * SEGMENT + first_page * PAGE
                length = min(pages * PAGE, disk["size_bytes"] - start)
                if length <= 0:
                    continue
                out.seek(start)
                out.write(contents[chunk][chunk_page * PAGE:chunk_page * PAGE + length])


def decode_payload(payload):
    """Section 4.3."""
    need(len(payload) >= 5, "a payload that is too short")
    codec, raw_length = struct.unpack_from("<BI", payload)
    need(raw_length <= SEGMENT, "a payload without a sane length")
    body = payload[5:]
    if codec == 1:
        body = zstandard.ZstdDecompressor().decompress(body, max_output_size=raw_length)
    else:
        need(codec == 0, f"codec {codec} needs a newer reader")
    need(len(body) == raw_length, "a payload of the wrong length")
    return body


class Fields:
    """Takes a node's bytes apart; every length is checked."""

    def __init__(self, content):
        self.content = content
        self.at = 0

    def take(self, layout):
        size = struct.calcsize(layout)
        need(self.at + size <= len(self.content), "a node that is cut off")
        values = struct.unpack_from(layout, self.content, self.at)
        self.at += size
        return values

    def packs(self, count):
        need(count <= 1024, "a node with too many packs")
        return [self.take("<16sI") for _ in range(count)]

    def address(self, packs):
        index, slot, offset, stored = self.take("<HHII")
        need(index < len(packs) and stored > 0 and offset + stored <= PACK_MAX,
             "an address outside its pack")
        return packs[index] + (slot, offset, stored)

    def end(self):
        need(self.at == len(self.content), "a node that is too long")


def decode_inner_node(content, level):
    fields = Fields(content)
    kind, node_level, pack_count, child_count = fields.take("<BBHH")
    need(kind == 2 and node_level == level and 1 <= child_count <= 256, "not such an inner node")
    packs = fields.packs(pack_count)
    children = []
    for _ in range(child_count):
        index, identity = fields.take("<B16s")
        need(not children or index > children[-1][0], "children out of order")
        children.append((index, identity, fields.address(packs)))
    fields.end()
    return children


def decode_leaf(content):
    fields = Fields(content)
    kind, reserved, pack_count, chunk_count, extent_count = fields.take("<BBHHH")
    need(kind == 1, "not a leaf")
    need(reserved == 0, "a leaf that needs a newer reader")
    need(chunk_count <= 1024 and extent_count <= 1024, "a leaf with too much in it")
    packs = fields.packs(pack_count)
    chunks = []
    for _ in range(chunk_count):
        (identity,) = fields.take("<16s")
        address = fields.address(packs)
        (pages,) = fields.take("<H")
        need(1 <= pages <= SEGMENT_PAGES, "a chunk without a sane length")
        chunks.append((address, identity, pages))
    extents = []
    free = 0
    for _ in range(extent_count):
        first_page, pages, chunk, chunk_page = extent = fields.take("<HHHH")
        need(pages > 0 and first_page >= free and first_page + pages <= SEGMENT_PAGES,
             "extents that overlap")
        need(chunk < len(chunks) and chunk_page + pages <= chunks[chunk][2],
             "an extent outside its chunk")
        free = first_page + pages
        extents.append(extent)
    fields.end()
    return chunks, extents


def find_point(machines, text):
    every = [(machine, machine.points()) for machine in machines]
    if text == "latest" or text.startswith("latest:"):
        name = text[7:]
        newest = [(points[-1]["taken"], machine, points[-1]) for machine, points in every
                  if points and (not name or machine.record["name"] == name)]
        need(newest, "no such point")
        return max(newest, key=lambda entry: entry[0])[1:]
    found = [(machine, point) for machine, points in every for point in points
             if point["session"].startswith(text)]
    need(len(found) == 1, f"{len(found)} points begin with {text}")
    return found[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository")
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument("--code-file")
    words.add_argument("--passphrase-file")
    parser.add_argument("--point")
    parser.add_argument("--disk", type=int, default=0)
    parser.add_argument("--to")
    args = parser.parse_args()
    repository = Repository(args.repository)
    with open(args.code_file or args.passphrase_file, encoding="utf-8") as file:
        repository.unlock(file.read().rstrip("\n"))
    machines = [Machine(repository, name) for name in repository.children("machines")]
    if args.point is None:
        for machine in machines:
            for point in machine.points():
                print(point["session"], point["taken"], machine.record["name"], point["kind"],
                      " ".join(str(disk["size_bytes"]) for disk in point["disks"]))
        return
    if args.to is None:
        parser.error("--point needs --to")
    machine, point = find_point(machines, args.point)
    with open(args.to, "wb") as out:
        machine.restore(point["disks"][args.disk], out)


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError, KeyError, ValueError, zstandard.ZstdError) as error:
        sys.exit(f"reader.py: {error}")
