#include <fmt/format.h>

#include <algorithm>

#include "cloud/ec2_client.h"
#include "cloud/ec2_parameters.h"

namespace reclo::cloud {
namespace {

Result<Image> parse_image(const pugi::xml_node& item) {
  Image out;
  RECLO_ASSIGN_OR_RETURN(const std::string id, xml_required(item, "imageId"));
  RECLO_ASSIGN_OR_RETURN(out.id, ImageId::parse(id));
  out.name = xml_text(item, "name");
  out.state = xml_text(item, "imageState");
  out.boot_mode = xml_text(item, "bootMode");
  out.root_device = xml_text(item, "rootDeviceName");
  for (const pugi::xml_node node : item.child("blockDeviceMapping").children("item")) {
    const pugi::xml_node ebs = node.child("ebs");
    DiskMapping disk;
    disk.device_name = xml_text(node, "deviceName");
    const std::string snapshot = xml_text(ebs, "snapshotId");
    if (snapshot.empty()) continue;
    RECLO_ASSIGN_OR_RETURN(disk.snapshot, SnapshotId::parse(snapshot));
    RECLO_ASSIGN_OR_RETURN(const uint64_t size, xml_number(ebs, "volumeSize"));
    disk.volume_size_gib = static_cast<uint32_t>(std::min<uint64_t>(size, UINT32_MAX));
    out.disks.push_back(std::move(disk));
  }
  out.tags = parse_tags(item);
  return out;
}

}  // namespace

// The service's defaults are wrong for a server's disk: i386, paravirtual, no ENA, and BIOS even
// for a disk that boots by UEFI only.
Result<ImageId> Ec2Client::register_image(const RegisterImage& wanted, const CancelToken& cancel) {
  if (wanted.disks.empty())
    return Error(Code::kInvalidArgument, "an image needs at least one disk");
  net::QueryPairs parameters{
      {"Name", wanted.name},
      {"Description", wanted.description},
      {"Architecture", "x86_64"},
      {"VirtualizationType", "hvm"},
      {"EnaSupport", "true"},
      {"ImdsSupport", "v2.0"},
      {"BootMode", wanted.boot_mode == BootMode::kUefi ? "uefi" : "legacy-bios"},
      {"RootDeviceName", wanted.disks.front().device_name}};
  add_disks(parameters, wanted.disks);
  add_tags(parameters, wanted.tags, {"image"});
  RECLO_ASSIGN_OR_RETURN(const Bytes body, client_.call("RegisterImage", parameters, cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "ec2:RegisterImage"));
  RECLO_ASSIGN_OR_RETURN(const std::string id,
                         xml_required(document->document_element(), "imageId"));
  return ImageId::parse(id);
}

Result<std::vector<Image>> Ec2Client::images(const Filters& filters, const CancelToken& cancel) {
  net::QueryPairs parameters{{"Owner.1", "self"}};
  add_filters(parameters, filters);
  std::vector<Image> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeImages", parameters, "imagesSet",
      [&](const pugi::xml_node& item) -> Status {
        RECLO_ASSIGN_OR_RETURN(Image image, parse_image(item));
        out.push_back(std::move(image));
        return {};
      },
      cancel));
  return out;
}

Status Ec2Client::deregister_image(const ImageId& id, const CancelToken& cancel) {
  const auto gone = client_.call("DeregisterImage", {{"ImageId", id.text()}}, cancel);
  if (gone.ok() || gone.error().code() == Code::kNotFound) return {};
  return gone.error();
}

}  // namespace reclo::cloud
