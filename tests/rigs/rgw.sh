#!/bin/bash
# rgw.sh - one real, distributed S3 store on loopback: Ceph monitor, manager, OSDs and RADOS gateway
# from Debian's packages (ceph-mon ceph-mgr ceph-osd radosgw), without systemd.
#
#   rgw.sh start            make it on first use, else restart what does not run
#   rgw.sh stop             end all daemons, keep the data
#   rgw.sh kill9 [DAEMON]   as a crash: mon.a, mgr.a, osd.0, rgw.a, or all
#   rgw.sh status           daemons and their memory
#   rgw.sh env              what a client needs, as shell exports
#   rgw.sh destroy          end everything and remove RGW_DIR
#
# RGW_DIR (required) holds everything. RGW_PORT, MON_PORT, MON_PORT2: free ones unless given; they
# are kept in RGW_DIR, because the cluster's own map names them. OSDS=1, POOL_SIZE=1, OSD_GB=20
# (sparse), USE_MGR=0.
set -u
: "${RGW_DIR:?set RGW_DIR to a folder of its own}"
PATH=$PATH:/usr/sbin:/sbin
OSDS=${OSDS:-1}
OSD_GB=${OSD_GB:-20}
USE_MGR=${USE_MGR:-0}   # 300 MiB of memory that one OSD does without
ACCESS_KEY=RECLOTESTKEY00000001
SECRET_KEY=recloTestSecret/with+slash00000000000000
CONF=$RGW_DIR/ceph.conf
MON_WAIT_S=30 OSD_WAIT_S=60 RGW_WAIT_S=120

log() { printf '%s rgw.sh: %s\n' "$(date +%T.%3N)" "$*" >&2; }
die() { log "FAILED: $*"; exit 1; }
ceph_do() { timeout 30 ceph -c "$CONF" --connect-timeout 20 "$@" 2>>"$RGW_DIR/log/cli.err"; }

# The pid of daemon $1, if it still is ours: a pid may have been reused.
pid_of() {
  local pid
  pid=$(cat "$RGW_DIR/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$CONF" && echo "$pid"
}
daemons() { (cd "$RGW_DIR/run" 2>/dev/null && ls -- *.pid 2>/dev/null | sed 's/\.pid$//'); }
run_daemon() {
  local name=$1
  shift
  pid_of "$name" >/dev/null && return 0
  setsid "$@" -c "$CONF" -f >>"$RGW_DIR/log/$name.out" 2>&1 </dev/null &
  echo $! >"$RGW_DIR/run/$name.pid"
}
wait_for() {
  local what=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || die "$what is not ready (see $RGW_DIR/log)"
    sleep 0.1
  done
}
mon_answers() { timeout 5 ceph -c "$CONF" --connect-timeout 4 quorum_status; }
osds_are_up() {
  [ "$(ceph_do osd stat -f json | python3 -c 'import json,sys; print(json.load(sys.stdin)["num_up_osds"])')" -ge "$OSDS" ]
}
gateway_answers() { curl -s -o /dev/null -m 2 "http://127.0.0.1:$RGW_PORT/"; }

choose_ports() {
  if [ ! -s "$RGW_DIR/ports" ]; then
    local free
    free=$(python3 - <<'PY'
import socket
sockets = [socket.socket() for _ in range(3)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PY
    ) || die "no free ports"
    read -r a b c <<<"$free"
    echo "${RGW_PORT:-$a} ${MON_PORT:-$b} ${MON_PORT2:-$c}" >"$RGW_DIR/ports"
  fi
  read -r RGW_PORT MON_PORT MON_PORT2 <"$RGW_DIR/ports"
}

# Why some of these lines:
#   ms_mon_client_mode        the gateway's own default is "secure", which hangs without cephx
#   tcp_nodelay               a small GET takes 44 ms without it
#   paxos_*                   cold start in 7 s instead of 18
#   osd_client_watch_timeout  else the first request after a killed gateway blocks for 23 s
#   osd_heartbeat_*, mon_osd_* one host notices a dead OSD in a second
write_conf() {
  mkdir -p "$RGW_DIR"/{run,log,mon.a,mgr.a,rgw.a} || die "cannot make $RGW_DIR"
  choose_ports
  [ -s "$RGW_DIR/fsid" ] || cat /proc/sys/kernel/random/uuid >"$RGW_DIR/fsid"
  : >>"$RGW_DIR/keyring"
  cat >"$CONF" <<CONF_END
[global]
fsid = $(cat "$RGW_DIR/fsid")
mon_host = [v2:127.0.0.1:$MON_PORT2/0,v1:127.0.0.1:$MON_PORT/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
ms_mon_client_mode = crc
ms_client_mode = crc
run_dir = $RGW_DIR/run
pid_file =
admin_socket = $RGW_DIR/run/\$name.asok
log_file = $RGW_DIR/log/\$name.log
crash_dir = $RGW_DIR/log
keyring = $RGW_DIR/keyring
mon_data = $RGW_DIR/mon.a
mgr_data = $RGW_DIR/mgr.a
osd_data = $RGW_DIR/osd.\$id
rgw_data = $RGW_DIR/rgw.a
osd_pool_default_size = ${POOL_SIZE:-1}
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_heartbeat_interval = 1
osd_heartbeat_grace = 4
osd_client_watch_timeout = 3
osd_memory_target = 939524096
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
osd_objectstore = bluestore
bluestore_block_size = $((OSD_GB * 1024 * 1024 * 1024))
bluestore_block_create = true
bluestore_block_db_create = false
bluestore_block_wal_create = false
mon_osd_min_down_reporters = 1
mon_osd_reporter_subtree_level = osd
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 3
mon_data_avail_crit = 1
mon_warn_on_pool_no_redundancy = false
paxos_propose_interval = 0.1
paxos_min_wait = 0.02
debug_rocksdb = 0/0
debug_bluestore = 0/0
debug_bluefs = 0/0
debug_bdev = 0/0
debug_osd = 0/0
debug_ms = 0/0
debug_mon = 0/0
debug_paxos = 0/0
debug_mgr = 0/0
debug_rgw = 0/0
rgw_frontends = beast endpoint=127.0.0.1:$RGW_PORT tcp_nodelay=1
rgw_thread_pool_size = 64
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_run_sync_thread = false
rgw_dns_name = localhost
[mon.a]
mon_addr = 127.0.0.1:$MON_PORT
CONF_END
}

make_monitor() {
  [ -f "$RGW_DIR/mon.a/.made" ] && return
  rm -rf "$RGW_DIR/mon.a" && mkdir "$RGW_DIR/mon.a"
  monmaptool --create --clobber --addv a "[v2:127.0.0.1:$MON_PORT2,v1:127.0.0.1:$MON_PORT]" \
    --fsid "$(cat "$RGW_DIR/fsid")" "$RGW_DIR/monmap" >>"$RGW_DIR/log/mkfs.out" 2>&1 || die monmaptool
  ceph-mon -c "$CONF" -i a --mkfs --monmap "$RGW_DIR/monmap" >>"$RGW_DIR/log/mkfs.out" 2>&1 ||
    die "ceph-mon --mkfs (see $RGW_DIR/log/mkfs.out)"
  touch "$RGW_DIR/mon.a/.made"
}
make_osd() {
  local id=$1 uuid
  [ -f "$RGW_DIR/osd.$id/.made" ] && return
  rm -rf "$RGW_DIR/osd.$id" && mkdir "$RGW_DIR/osd.$id"
  uuid=$(cat /proc/sys/kernel/random/uuid)
  ceph_do osd new "$uuid" "$id" >>"$RGW_DIR/log/mkfs.out" || die "osd new $id"
  ceph-osd -c "$CONF" -i "$id" --mkfs --osd-uuid "$uuid" >>"$RGW_DIR/log/mkfs.out" 2>&1 ||
    die "ceph-osd --mkfs"
  touch "$RGW_DIR/osd.$id/.made"
}
make_user() {
  [ -f "$RGW_DIR/.user" ] && return
  timeout 60 radosgw-admin -c "$CONF" user create --uid=reclo --display-name=reclo \
    --access-key="$ACCESS_KEY" --secret-key="$SECRET_KEY" >"$RGW_DIR/user.json" 2>>"$RGW_DIR/log/cli.err" ||
    timeout 60 radosgw-admin -c "$CONF" user info --uid=reclo >"$RGW_DIR/user.json" 2>>"$RGW_DIR/log/cli.err" ||
    die "cannot make the user"
  touch "$RGW_DIR/.user"
}

start() {
  local began_ms id program
  for program in ceph ceph-mon ceph-osd radosgw monmaptool; do
    command -v "$program" >/dev/null ||
      die "$program is missing: apt-get install --no-install-recommends ceph-mon ceph-mgr ceph-osd radosgw"
  done
  began_ms=$(date +%s%3N)
  write_conf
  make_monitor
  run_daemon mon.a ceph-mon -i a
  wait_for monitor $MON_WAIT_S mon_answers
  [ "$USE_MGR" = 1 ] && run_daemon mgr.a ceph-mgr -i a
  for ((id = 0; id < OSDS; id++)); do
    make_osd "$id"
    # After a crash the map still says "up"; below, "up" must mean this process.
    pid_of "osd.$id" >/dev/null || ceph_do osd down "$id" >/dev/null
    run_daemon "osd.$id" ceph-osd -i "$id"
  done
  wait_for "OSDs" $OSD_WAIT_S osds_are_up
  run_daemon rgw.a radosgw -n client.rgw.a
  wait_for gateway $RGW_WAIT_S gateway_answers
  make_user
  log "ready after $(($(date +%s%3N) - began_ms)) ms at http://127.0.0.1:$RGW_PORT"
}

# end_all SIGNAL: gateway first, so that clients see a clean end.
end_all() {
  local name pid end=$((SECONDS + 20))
  for name in $(daemons | sort -r); do
    pid=$(pid_of "$name") && kill "-$1" "$pid" 2>/dev/null
    [[ $1 = TERM && $name = rgw* ]] && sleep 0.2
  done
  for name in $(daemons); do
    while pid=$(pid_of "$name"); do
      [ $SECONDS -lt $end ] || kill -9 "$pid"
      sleep 0.1
    done
    rm -f "$RGW_DIR/run/$name.pid"
  done
}
kill9() {
  local pid
  if [ -z "${1:-}" ]; then
    end_all KILL
  elif pid=$(pid_of "$1"); then
    kill -9 "$pid"
  fi
}
status() {
  local name pid
  for name in $(daemons); do
    if pid=$(pid_of "$name"); then
      printf '%-8s pid %-7s %5d MiB\n' "$name" "$pid" $(($(awk '/VmRSS/{print $2}' "/proc/$pid/status") / 1024))
    else
      printf '%-8s dead\n' "$name"
    fi
  done
}

case ${1:-} in
  start) start ;;
  stop) end_all TERM ;;
  kill9) kill9 "${2:-}" ;;
  status) status ;;
  env)
    choose_ports
    echo "export AWS_ACCESS_KEY_ID='$ACCESS_KEY' AWS_SECRET_ACCESS_KEY='$SECRET_KEY' RECLO_TEST_S3_ENDPOINT=http://127.0.0.1:$RGW_PORT"
    ;;
  destroy)
    end_all KILL
    # Only what start made is removed.
    if [ -f "$CONF" ] && [ -f "$RGW_DIR/fsid" ]; then rm -rf "$RGW_DIR"; fi
    ;;
  *)
    sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
