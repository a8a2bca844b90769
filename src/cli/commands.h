// One function per verb. Each prints its result to stdout (text, or JSON with --json) and returns
// an error for main() to print and turn into the exit code.
#pragma once

#include "cli/context.h"

namespace reclo::cli {

Status run_init(Context& context, const InitArgs& args);
Status run_backup_command(Context& context, const BackupArgs& args);
Status run_points(Context& context, const PointsArgs& args);
Status run_show(Context& context, const ShowArgs& args);
Status run_diff(Context& context, const DiffArgs& args);
Status run_restore(Context& context, const RestoreArgs& args);
Status run_serve(Context& context, const ServeArgs& args);
Status run_recover(Context& context, const RecoverArgs& args);
Status run_instances(Context& context, const InstancesArgs& args);
Status run_stop(Context& context, const StopArgs& args);
Status run_resume(Context& context, const ResumeArgs& args);
Status run_supervisor(Context& context, const SupervisorArgs& args);
Status run_prepare(Context& context, const PrepareArgs& args);
Status run_unprepare(Context& context, const UnprepareArgs& args);
Status run_standby_refresh(Context& context, const StandbyArgs& args);
Status run_standby_status(Context& context, const StandbyArgs& args);
Status run_standby_drop(Context& context, const StandbyArgs& args);
Status run_policy_print(Context& context);
Status run_verify(Context& context, const VerifyArgs& args);
Status run_key_list(Context& context);
Status run_key_add(Context& context, const KeyAddArgs& args);
Status run_key_remove(Context& context, const KeyRemoveArgs& args);
Status run_version(Context& context);

}  // namespace reclo::cli
