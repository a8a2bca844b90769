// Records: the JSON of begin, end, machine.json, reclo.json, key slots and a server's key file, of
// the repository 0101…01. Input: one byte that chooses, then the text. Signed ones are signed here
// first: their parsers stand behind the signature.
#include "base/check.h"
#include "base/limits.h"
#include "repo/config.h"
#include "repo/envelope.h"
#include "repo/key_slots.h"
#include "repo/layout.h"
#include "repo/machine.h"
#include "repo/record.h"
#include "store/memory_store.h"

using namespace reclo;

namespace {

const RepositoryId& repository() {
  static const RepositoryId kId = RepositoryId::from_bytes(Bytes(16, 1));
  return kId;
}

const crypto::SigningKeyPair& signer() {
  static const crypto::SigningKeyPair kKeys =
      crypto::signing_key_pair_from_seed(crypto::SecretKey::from_bytes(Bytes(32, 2)));
  return kKeys;
}

Bytes signed_envelope(ByteSpan text) {
  return to_bytes("{\"payload\":\"" + to_base64(text) + "\",\"signature\":\"" +
                  to_base64(crypto::sign(signer(), text)) + "\"}");
}

void check_end(ByteSpan object) {
  const auto decoded =
      repo::decode_end(object, repository(), signer().public_key, "the fuzzed record");
  if (!decoded.ok() || !*decoded) return;
  const repo::PointRecord& point = **decoded;
  RECLO_CHECK(!point.disks.empty() && point.disks.size() <= kDisksPerServerMax);
  for (const repo::DiskRecord& disk : point.disks)
    RECLO_CHECK(disk.map_height == repo::map_height(disk.size_bytes) &&
                disk.map_height <= kMapHeightMax);
  const Bytes again = repo::encode_point(point, repository(), signer());
  const auto back = repo::decode_end(again, repository(), signer().public_key, "encoded again");
  RECLO_CHECK(back.ok() && back->has_value());
  RECLO_CHECK(repo::encode_point(**back, repository(), signer()) == again);
}

void check_machine(ByteSpan object) {
  const MachineId id = MachineId::from_bytes(Bytes(16, 3));
  store::MemoryStore store;
  store.overwrite(repo::layout::machine_record(id), to_bytes(object));
  const auto machine = repo::load_machine(store, repository(), id, CancelToken());
  if (machine.ok()) RECLO_CHECK(repo::check_server_name(machine->name).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteSpan text = ByteSpan(data, size).subspan(1);
  switch (data[0] % 8) {
    case 0:
      check_end(signed_envelope(text));
      break;
    case 1:
      check_end(text);
      break;
    case 2:
      ignore_error(repo::decode_begin(signed_envelope(text), repository(), "begin"), "fuzzed");
      break;
    case 3:
      check_machine(signed_envelope(text));
      break;
    case 4:
      ignore_error(repo::decode_config(text), "fuzzed");
      break;
    case 5:
      ignore_error(repo::check_key_slot(text, repository(), "keys/0101010101010101.json"),
                   "fuzzed");
      break;
    case 6:
      ignore_error(repo::decode_machine_keys(text, repository()), "fuzzed");
      break;
    default:
      ignore_error(repo::verify_check(text, signer().seed, "a record"), "fuzzed");
  }
  return 0;
}
