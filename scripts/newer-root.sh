#!/usr/bin/env bash
# Makes a root directory of a newer Debian where the machine's own packages are older.
#
#   scripts/newer-root.sh ROOT SUITE PACKAGE... [-- PACKAGE ADDED LATER...]
#
# The packages come from where this machine's own apt gets Debian's. Needs root. A stamp file is written last, so that
# a build that was cut is built again; a root whose stamp names these packages is left as it is.
set -euo pipefail

root=${1:?scripts/newer-root.sh ROOT SUITE PACKAGE...}
suite=$2
shift 2
packages=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  packages+=("$1")
  shift
done
added=("${@:2}")
stamp=$root.stamp

main() {
  [ "$(cat "$stamp" 2>/dev/null)" = "${packages[*]}" ] || build_once
  if [ ${#added[@]} -gt 0 ] && [ "$(cat "$stamp.added" 2>/dev/null)" != "${added[*]}" ]; then
    say "adding ${added[*]} to $root"
    PGKIT_ROOT=$root bash "$(dirname "${BASH_SOURCE[0]}")/in-root.sh" sh -c \
      'export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; apt-get -y -qq --no-install-recommends install "$@"' sh "${added[@]}" >&2
    echo "${added[*]}" >"$stamp.added"
  fi
}

build_once() {
  [ "$(id -u)" -eq 0 ] || fail "a root directory of Debian $suite can only be made by root: run it as root, or with sudo"
  mkdir -p "$(dirname "$root")"
  exec 8>"$root.lock"
  flock -w 900 8 || fail "another build of $root has been running for 15 minutes"
  [ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ] || return 0
  rm -rf --one-file-system "$root" "$stamp" "$stamp.added"
  say "making a root directory of Debian $suite in $root"
  local log=$root.log
  build >"$log" 2>&1 8>&- || {
    tail -n 30 "$log" >&2
    fail "could not make $root (the whole log is $log)"
  }
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
  chmod 755 "$root"
  echo "${packages[*]}" >"$stamp"
}

build() {
  local mirror include
  mirror=$(debian_mirror)
  include=$(IFS=, && echo "${packages[*]}")
  if command -v mmdebstrap >/dev/null; then
    # Before any package is unpacked: no cluster of PostgreSQL is made, no service is started.
    # shellcheck disable=SC2016 # $1 is the hook's
    mmdebstrap --variant=apt --mode=root --aptopt='Acquire::Languages "none"' --include="$include" \
      --aptopt="Acquire::Check-Valid-Until \"$(valid_until)\"" \
      --setup-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d" && echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/pgkit.conf"' \
      --essential-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"' \
      "$suite" "$root" ${mirror:+"$mirror"}
  else
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"}
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    mkdir -p "$root/etc/postgresql-common/createcluster.d"
    echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.d/pgkit.conf"
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends install "${packages[@]}"
  fi
}

# As this machine's apt has it: a mirror that is kept as it was on some day is out of date by the rules of testing.
valid_until() {
  local value
  eval "$(apt-config shell value Acquire::Check-Valid-Until)"
  echo "${value:-true}"
}

# Where this machine gets Debian's main archive from; nothing where it has none (then the tool's own default serves).
debian_mirror() {
  apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian|Debian|main|//p' | head -n 1
}

say() { echo "setup: $*" >&2; }
fail() {
  echo "setup: $*" >&2
  exit 1
}

main "$@"
