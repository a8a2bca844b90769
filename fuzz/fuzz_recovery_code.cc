// What people type as a recovery code.
#include "base/check.h"
#include "crypto/passphrase.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = as_text({data, size});
  const auto key = crypto::key_from_recovery_code(text);
  if (key.ok()) RECLO_CHECK(crypto::looks_like_recovery_code(text));
  return 0;
}
