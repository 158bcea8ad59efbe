#!/usr/bin/env bash
# Installs what the tests, the demo and the benches need; quick when nothing is to do.
#
#   scripts/setup.sh [packages|system|proxies|s3|azure|root|newest|image|bench]...
#
#   packages  node_modules, as package-lock.json says
#   system    PostgreSQL 15 or newer (server and clients), age, zstd, jq
#   proxies   PgBouncer and HAProxy
#   s3        Ceph's monitor, object storage daemon and S3 gateway, and the aws command
#   azure     the az command
#   root      a root directory of Debian 13 with PostgreSQL 17 and Ceph 18, in the cache folder
#   newest    a root directory of Debian testing with PostgreSQL 18 and Ceph 20 or newer, beside it
#   image     a root directory of Debian 13 in which the Dockerfile's last stage was carried out
#   bench     the other backup and copy tools that `npm run bench` compares with
#
# With neither root nor sudo it installs nothing and says what is missing. No service is ever started.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${PGKIT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pgkit}
lock_timeout_s=900
as_root=()

main() {
  [ $# -gt 0 ] || set -- packages system
  local part
  for part in "$@"; do
    case $part in
      packages | system | proxies | s3 | azure | root | newest | image | bench) "setup_$part" ;;
      *) fail "scripts/setup.sh: unknown part '$part' (packages, system, proxies, s3, azure, root, newest, image, bench)" ;;
    esac
  done
}

setup_packages() {
  local stamp=$project/node_modules/.pgkit-installed
  if [ -e "$stamp" ] && [ "$stamp" -nt "$project/package-lock.json" ]; then return; fi
  say "installing node packages"
  command -v npm >/dev/null || fail "npm is missing: install Node.js with npm (any supported version; the project brings its own Node 24)"
  (cd "$project" && npm ci --no-audit --no-fund --loglevel=error >&2)
  touch "$stamp"
}

setup_system() {
  local missing=()
  [ -n "$(newest_server)" ] || missing+=(postgresql)
  command -v age >/dev/null || missing+=(age)
  command -v zstd >/dev/null || missing+=(zstd)
  command -v jq >/dev/null || missing+=(jq)
  [ ${#missing[@]} -eq 0 ] || install_on_host "${missing[@]}"
  [ -n "$(newest_server)" ] || fail "the system's packages have no PostgreSQL 15 or newer: add PostgreSQL's own package source (postgresql-common ships a script for it) and run this again"
}

setup_proxies() {
  local missing=() program
  for program in pgbouncer haproxy; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -eq 0 ] || install_on_host "${missing[@]}"
}

setup_s3() {
  local missing=() program
  for program in ceph-mon ceph-osd radosgw ceph:ceph-common openssl aws:awscli; do
    # Of a:b the package b has the program a.
    command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
  done
  [ ${#missing[@]} -eq 0 ] || install_on_host "${missing[@]}"
}

setup_azure() {
  command -v az >/dev/null || install_on_host azure-cli
}

setup_bench() {
  local missing=() program
  for program in pgbackrest pgcopydb; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -eq 0 ] || install_on_host "${missing[@]}"
  make_root trixie "${postgres_17[@]}" "${ceph[@]}" -- pgbackrest pgcopydb
}

postgres_17=(postgresql-17 age zstd jq awscli pgbouncer haproxy)
postgres_18=(postgresql-18 age zstd jq)
ceph=(ceph-mon ceph-osd radosgw ceph-common ca-certificates openssl procps)

setup_root() { make_root trixie "${postgres_17[@]}" "${ceph[@]}"; }
setup_newest() { make_root forky "${ceph[@]}" -- "${postgres_18[@]}"; }

# The project's Node goes into it: the packages come first.
setup_image() {
  root_tools
  bash "$project/scripts/image-root.sh" build
}

root_tools() {
  # Also where Debian's keys are not Debian's own: on Ubuntu.
  local missing=()
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
  if ! command -v mmdebstrap >/dev/null && ! command -v debootstrap >/dev/null; then
    (install_on_host mmdebstrap "${missing[@]}") || install_on_host debootstrap "${missing[@]}"
  fi
}

make_root() {
  root_tools
  local suite=$1
  shift
  bash "$project/scripts/newer-root.sh" "$cache/roots/$suite" "$suite" "$@"
}

# The bin folder of the newest server of major 15 or more that is installed, or nothing.
newest_server() {
  local dir major newest=0
  for dir in /usr/lib/postgresql/*/bin; do
    major=$(basename "$(dirname "$dir")")
    if [[ $major =~ ^[0-9]+$ ]] && [ -x "$dir/initdb" ] && [ "$major" -gt "$newest" ]; then newest=$major; fi
  done
  if [ "$newest" -ge 15 ]; then echo "/usr/lib/postgresql/$newest/bin"; fi
}

install_on_host() {
  command -v apt-get >/dev/null || fail "missing: $*. This is not Debian or Ubuntu: install them with the system's package manager"
  if [ "$(id -u)" -ne 0 ]; then
    { command -v sudo >/dev/null && sudo -n true 2>/dev/null; } || fail "missing: $*. Install them as root: apt-get install $*"
    as_root=(sudo -n)
  fi
  # One installation at a time; whoever waited may find the work done, which apt-get says quickly.
  mkdir -p "$cache"
  (
    flock -w "$lock_timeout_s" 9 || fail "another scripts/setup.sh has been installing for $lock_timeout_s s"
    say "installing $*"
    install_quietly "$@" 9>&-
  ) 9>"$cache/setup.lock"
}

# Neither starts services nor creates a PostgreSQL cluster: both files are put back as they were.
install_quietly() {
  local policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.d/pgkit.conf made=()
  if [ ! -e $policy ]; then
    made+=("$policy")
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    "${as_root[@]}" chmod 755 $policy
  fi
  if [ ! -e $clusters ]; then
    made+=("$clusters")
    "${as_root[@]}" mkdir -p "$(dirname $clusters)"
    echo 'create_main_cluster = false' | "${as_root[@]}" tee $clusters >/dev/null
  fi
  # shellcheck disable=SC2064 # the names of now
  trap "${as_root[*]} rm -f ${made[*]}" EXIT
  local log
  log=$(mktemp)
  # A machine that was just made knows no packages yet.
  apt_get "$log" install "$@" || { apt_get "$log" update && apt_get "$log" install "$@"; } || {
    tail -n 20 "$log" >&2
    fail "apt-get could not install: $*"
  }
  rm -f "$log"
}

# apt-get waits for dpkg's lock by itself, but not for the one on its lists and downloads.
apt_get() {
  local log=$1 deadline=$((SECONDS + lock_timeout_s))
  shift
  until "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=$lock_timeout_s -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1; do
    if ! grep -q 'Could not get lock\|Unable to lock' "$log" || [ $SECONDS -ge $deadline ]; then return 1; fi
    sleep 1
  done
}

say() { echo "setup: $*" >&2; }
fail() {
  echo "setup: $*" >&2
  exit 1
}

main "$@"
