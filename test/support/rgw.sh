#!/usr/bin/env bash
# A real S3 server for tests and benches: Ceph's gateway with one monitor and one object storage daemon on a sparse
# file, all on the loopback interface, with plain HTTP and TLS, and no data worth keeping.
#
#   test/support/rgw.sh start  DIR [--root NAME]   starts it in the background; says where it is, as JSON
#   test/support/rgw.sh run    DIR [--root NAME]   the same, but until its standard input ends; then DIR is removed
#   test/support/rgw.sh status DIR                 the JSON again; exit 1 when it does not run
#   test/support/rgw.sh stop   DIR                 stops it; DIR can be started again
#
# --root takes the newer Ceph of a root directory: `trixie` that `scripts/setup.sh root` makes, or `forky` of `newest`.
set -euo pipefail

command=${1:-}
dir=${2:-}
in_root=${4:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds_to_start=60
daemons=(rgw osd mon)
keeper=() # what each daemon is started by

main() {
  [[ $command =~ ^(start|run|status|stop)$ && -n $dir && ($# -eq 2 || ($# -eq 4 && $3 == --root)) ]] ||
    fail "usage: rgw.sh start|run|status|stop DIR [--root NAME]"
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd -P)
  if [ -n "$in_root" ] && [[ $command =~ ^(start|run)$ ]]; then
    PGKIT_ROOT=$in_root exec bash "$here/../../scripts/in-root.sh" bash "${BASH_SOURCE[0]}" "$command" "$dir"
  fi
  "do_$command"
}

do_start() {
  keeper=(setsid)
  up
  cat "$dir/server.json"
}

# The daemons die with this shell even when it is killed; by the end of standard input it knows that nobody needs them.
do_run() {
  keeper=(setsid setpriv --pdeathsig KILL)
  trap 'exit 143' TERM INT HUP
  trap 'kill_all; rm -rf "$dir"' EXIT
  up
  cat "$dir/server.json"
  # In the background, so that a signal is not kept waiting.
  cat <&0 >/dev/null &
  wait $! || true
}

do_status() {
  local daemon
  for daemon in "${daemons[@]}"; do alive "$daemon" || fail "$daemon does not run in $dir"; done
  cat "$dir/server.json"
}

do_stop() {
  local daemon pid
  for daemon in "${daemons[@]}"; do
    pid=$(cat "$dir/$daemon.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || true
    wait_until 20 gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$dir/$daemon.pid"
  done
}

kill_all() {
  local daemon
  for daemon in "${daemons[@]}"; do
    if [ -e "$dir/$daemon.pid" ]; then kill -KILL "$(cat "$dir/$daemon.pid")" 2>/dev/null || true; fi
    rm -f "$dir/$daemon.pid"
  done
}

up() {
  if [ -e "$dir/server.json" ]; then
    launch_all
  else
    make_cluster
  fi
  wait_until $seconds_to_start answers || fail "radosgw does not answer"
}

make_cluster() {
  local program
  for program in ceph-mon ceph-osd radosgw radosgw-admin ceph openssl; do
    command -v "$program" >/dev/null || fail "$program is not installed: run scripts/setup.sh s3"
  done
  # What a start that was cut left behind.
  rm -rf "$dir/mon" "$dir/osd" "$dir/run" "$dir"/*.log
  mkdir -p "$dir/mon" "$dir/osd" "$dir/run"
  local fsid osd_uuid mon_port http_port tls_port
  fsid=$(cat /proc/sys/kernel/random/uuid)
  osd_uuid=$(cat /proc/sys/kernel/random/uuid)
  # Not what the system gives to outgoing connections, so that none of them can take it before we do.
  mon_port=$(free_port 20000)
  http_port=$(free_port 24000)
  tls_port=$(free_port 28000)
  write_certificates
  write_config "$fsid" "$mon_port" "$http_port" "$tls_port"
  logged monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port]" "$dir/monmap"
  logged ceph-mon --conf "$dir/ceph.conf" --mkfs -i a --monmap "$dir/monmap"
  launch mon ceph-mon -i a
  wait_until $seconds_to_start ceph_says osd new "$osd_uuid" || fail "the monitor does not answer"
  logged ceph-osd --conf "$dir/ceph.conf" -i 0 --mkfs --osd-uuid "$osd_uuid"
  launch osd ceph-osd -i 0
  make_users "$http_port" "$tls_port"
  launch rgw radosgw -n client.rgw
}

launch_all() {
  launch mon ceph-mon -i a
  launch osd ceph-osd -i 0
  launch rgw radosgw -n client.rgw
}

launch() {
  local name=$1 program=$2
  shift 2
  "${keeper[@]}" "$program" --conf "$dir/ceph.conf" -f "$@" </dev/null >>"$dir/$name.log" 2>&1 &
  echo $! >"$dir/$name.pid"
}

# No authentication between the daemons: they are alone on the loopback interface, for an hour.
write_config() {
  local fsid=$1 mon_port=$2 http_port=$3 tls_port=$4
  cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:$mon_port]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# Else radosgw asks the monitor for encryption, which needs authentication.
ms_mon_client_mode = crc
run_dir = $dir/run
admin_socket = $dir/run/\$name.\$pid.asok
crash_dir = $dir/run
log_file = $dir/\$name.ceph.log
log_to_stderr = false
err_to_stderr = true
debug_ms = 0
# One daemon holds the only copy.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
# The map changes a dozen times while the pools are made, by default once a second.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_data = $dir/mon
mon_cluster_log_file = $dir/cluster.ceph.log
mon_data_avail_crit = 1
mon_data_avail_warn = 2
osd_data = $dir/osd
osd_class_dir = $(class_dir)
osd_objectstore = bluestore
bluestore_block_size = 64424509440
bluestore_block_db_create = false
bluestore_block_wal_create = false
# It does not measure its disk before it starts.
osd_op_queue = wpq
osd_memory_target = 939524096
osd_scrub_begin_hour = 0
osd_scrub_end_hour = 1

[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$http_port ssl_endpoint=127.0.0.1:$tls_port ssl_certificate=$dir/server.crt ssl_private_key=$dir/server.key tcp_nodelay=1
rgw_rados_pool_pg_num_min = 4
rgw_thread_pool_size = 64
rgw_enable_usage_log = false
# Server-side encryption is tried over plain HTTP too, with a key of its own for tests.
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = pgkit-test-key=$(head -c 32 /dev/urandom | base64)
CONF
}

# Debian's newer package has a relative path here.
class_dir() {
  local dir
  for dir in /usr/lib/*/rados-classes /usr/lib/rados-classes; do
    if [ -d "$dir" ]; then echo "$dir" && return; fi
  done
  fail "the object classes of ceph-osd are not installed"
}

# A certificate authority of our own and a certificate for the name localhost (not for 127.0.0.1: that is the wrong name).
write_certificates() {
  (
    cd "$dir"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=pgkit tests" \
      -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" -keyout ca.key -out ca.crt
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n' >server.ext
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.crt
  ) >>"$dir/setup.log" 2>&1 || fail "openssl could not make a certificate"
}

# The gateway reads it when it starts.
add_storage_class() {
  local place=(--placement-id default-placement --storage-class STANDARD_IA)
  admin zonegroup placement add --rgw-zonegroup default "${place[@]}"
  admin zone placement add --rgw-zone default "${place[@]}" --data-pool default.rgw.buckets.data
}

# server.json last: it says that the server is whole.
make_users() {
  local key secret denied_key denied_secret
  key=PGKIT$(random_letters 15) secret=$(random_letters 40) denied_key=DENIED$(random_letters 14) denied_secret=$(random_letters 40)
  admin user create --uid=pgkit --display-name=pgkit --access-key="$key" --secret-key="$secret"
  admin user create --uid=denied --display-name=denied --access-key="$denied_key" \
    --secret-key="$denied_secret" --max-buckets=-1
  add_storage_class
  cat >"$dir/server.json.new" <<JSON
{"endpoint":"http://127.0.0.1:$1","tlsEndpoint":"https://localhost:$2","wrongNameEndpoint":"https://127.0.0.1:$2","caFile":"$dir/ca.crt","region":"us-east-1","accessKeyId":"$key","secretAccessKey":"$secret","denied":{"accessKeyId":"$denied_key","secretAccessKey":"$denied_secret"},"kmsKeyId":"pgkit-test-key","version":"$(ceph-mon --version | cut -d' ' -f3)"}
JSON
  mv "$dir/server.json.new" "$dir/server.json"
}

admin() { logged timeout $seconds_to_start radosgw-admin --conf "$dir/ceph.conf" -n client.rgw "$@"; }
ceph_says() { timeout 10 ceph --conf "$dir/ceph.conf" "$@" >>"$dir/setup.log" 2>&1; }
alive() { kill -0 "$(cat "$dir/$1.pid" 2>/dev/null)" 2>/dev/null; }
gone() { ! kill -0 "$1" 2>/dev/null; }

answers() {
  local daemon port
  for daemon in "${daemons[@]}"; do alive "$daemon" || fail "$daemon has ended"; done
  port=$(sed -n 's/.*"endpoint":"[^"]*:\([0-9]*\)".*/\1/p' "$dir/server.json")
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

free_port() {
  local port
  for _ in {1..50}; do
    port=$(($1 + RANDOM % 4000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

random_letters() { head -c 256 /dev/urandom | base64 -w0 | tr -dc A-Z0-9 | head -c "$1"; }

wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}

logged() { "$@" >>"$dir/setup.log" 2>&1 || fail "$1 failed"; }

fail() {
  echo "rgw.sh: $*" >&2
  if [ -n "$dir" ] && [[ $command =~ ^(start|run)$ ]]; then tail -qn 5 "$dir"/*.log >&2 2>/dev/null || true; fi
  exit 1
}

main "$@"
