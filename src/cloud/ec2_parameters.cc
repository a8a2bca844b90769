#include "cloud/ec2_parameters.h"

#include <fmt/format.h>

#include <algorithm>

namespace reclo::cloud {
namespace {

constexpr size_t kItemsMax = 100'000;

// The most that an action takes.
const char* results_per_page(std::string_view action) {
  return action == "DescribeInstanceTypes" ? "100" : "1000";
}

}  // namespace

void add_filters(net::QueryPairs& parameters, const Filters& filters) {
  size_t n = 0;
  for (const auto& [name, values] : filters) {
    const std::string prefix = fmt::format("Filter.{}", ++n);
    parameters.emplace_back(prefix + ".Name", name);
    for (size_t i = 0; i < values.size(); ++i)
      parameters.emplace_back(fmt::format("{}.Value.{}", prefix, i + 1), values[i]);
  }
}

void add_tags(net::QueryPairs& parameters, const Tags& tags,
              const std::vector<std::string>& resource_types) {
  if (tags.empty()) return;
  for (size_t i = 0; i < resource_types.size(); ++i) {
    const std::string prefix = fmt::format("TagSpecification.{}", i + 1);
    parameters.emplace_back(prefix + ".ResourceType", resource_types[i]);
    size_t n = 0;
    for (const auto& [key, value] : tags) {
      const std::string tag = fmt::format("{}.Tag.{}", prefix, ++n);
      parameters.emplace_back(tag + ".Key", key);
      parameters.emplace_back(tag + ".Value", value);
    }
  }
}

void add_disks(net::QueryPairs& parameters, const std::vector<DiskMapping>& disks) {
  for (size_t i = 0; i < disks.size(); ++i) {
    const DiskMapping& disk = disks[i];
    const std::string prefix = fmt::format("BlockDeviceMapping.{}", i + 1);
    parameters.emplace_back(prefix + ".DeviceName", disk.device_name);
    if (!disk.snapshot.empty())
      parameters.emplace_back(prefix + ".Ebs.SnapshotId", disk.snapshot.text());
    if (disk.volume_size_gib != 0)
      parameters.emplace_back(prefix + ".Ebs.VolumeSize", std::to_string(disk.volume_size_gib));
    if (disk.initialization_rate != 0)
      parameters.emplace_back(prefix + ".Ebs.VolumeInitializationRate",
                              std::to_string(disk.initialization_rate));
    parameters.emplace_back(prefix + ".Ebs.VolumeType", "gp3");
    parameters.emplace_back(prefix + ".Ebs.DeleteOnTermination", "true");
  }
}

Tags parse_tags(const pugi::xml_node& node) {
  Tags tags;
  for (const pugi::xml_node item : node.child("tagSet").children("item"))
    tags[xml_text(item, "key")] = xml_text(item, "value");
  return tags;
}

Status for_each_item(QueryClient& client, const std::string& action,
                     const net::QueryPairs& parameters, const char* set,
                     const std::function<Status(const pugi::xml_node&)>& visit,
                     const CancelToken& cancel) {
  std::string page;
  size_t items = 0;
  // A page size and a list of ids exclude each other.
  const bool by_id = std::any_of(parameters.begin(), parameters.end(), [](const auto& pair) {
    return pair.first.find("Id.") != std::string::npos;
  });
  do {
    net::QueryPairs all = parameters;
    if (!by_id) all.emplace_back("MaxResults", results_per_page(action));
    if (!page.empty()) all.emplace_back("NextToken", page);
    RECLO_ASSIGN_OR_RETURN(const Bytes body, client.call(action, std::move(all), cancel));
    RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "ec2:" + action));
    const pugi::xml_node root = document->document_element();
    for (const pugi::xml_node item : root.child(set).children("item")) {
      if (++items > kItemsMax)
        return Error(Code::kResourceExhausted,
                     fmt::format("ec2:{} lists more than {} things", action, kItemsMax));
      RECLO_TRY_WITH(visit(item), "ec2:" + action);
    }
    const std::string next = xml_text(root, "nextToken");
    if (!next.empty() && next == page)
      return Error(Code::kUnavailable, "ec2:" + action + ": its pages go in a circle");
    page = next;
  } while (!page.empty());
  return {};
}

}  // namespace reclo::cloud
