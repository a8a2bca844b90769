// The parameters of EC2's Query protocol: "Filter.1.Value.2", and its lists taken apart again.
// For .cc files of this module only.
#pragma once

#include <functional>
#include <string>

#include "cloud/ec2_client.h"
#include "cloud/xml.h"

namespace reclo::cloud {

void add_filters(net::QueryPairs& parameters, const Filters& filters);
/// TagSpecification.N: the same tags for each of the resource types.
void add_tags(net::QueryPairs& parameters, const Tags& tags,
              const std::vector<std::string>& resource_types);
/// BlockDeviceMapping.N
void add_disks(net::QueryPairs& parameters, const std::vector<DiskMapping>& disks);

Tags parse_tags(const pugi::xml_node& node);

/// Calls a Describe action page by page, and `visit` with each <item> of the set. An empty page may
/// have a next one.
Status for_each_item(QueryClient& client, const std::string& action,
                     const net::QueryPairs& parameters, const char* set,
                     const std::function<Status(const pugi::xml_node&)>& visit,
                     const CancelToken& cancel);

}  // namespace reclo::cloud
