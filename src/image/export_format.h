// A recovery point's disk as an image file of another program's format.
//
// The formats are QEMU's work: qemu-img reads a private NBD export of the point. The file appears
// under its name when it is complete, or not at all.
// Thread rule: free functions, safe from any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/progress.h"
#include "image/nbd_export.h"

namespace reclo::image {

enum class ExportFormat { kQcow2, kVhd, kVhdx, kVmdk };

/// "qcow2", "vhd", "vhdx", "vmdk". Errors: kInvalidArgument ("raw" is restore_disk()'s).
Result<ExportFormat> parse_export_format(std::string_view name);

struct ExportRequest {
  /// The place to listen is ours to choose.
  NbdExportOptions source;
  std::string target_path;
  ExportFormat format = ExportFormat::kQcow2;
  bool force = false;  // replaces an existing file
};

/// Writes the file; holes take no space in it. Returns its length in bytes. Errors: kAlreadyExists;
/// kNotFound (qemu-img is not installed); kIo with qemu-img's words; those of start_nbd_export().
Result<uint64_t> export_disk(const ExportRequest& request, const crypto::SecretKey& box_secret_key,
                             ProgressSink& progress, const CancelToken& cancel);

}  // namespace reclo::image
