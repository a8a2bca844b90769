// RECLO_KILL_POINT("pack.after_upload"): a named place where crash tests end the process as a power
// cut would (_exit, no destructors). Armed by RECLO_KILL_POINT=name[:nth] in the environment; a
// branch on one cached pointer otherwise.
#pragma once

namespace reclo {
void kill_point_reached(const char* name);
}  // namespace reclo

#define RECLO_KILL_POINT(name) ::reclo::kill_point_reached(name)
