#!/usr/bin/env bash
# Makes a root directory of Debian 13 (PostgreSQL 17, Ceph 18) where the machine's own packages are older.
#
#   scripts/newer-root.sh ROOT [EXTRA PACKAGE]...
#
# The packages come from where this machine's own apt gets Debian's. Needs root. A stamp file is written last, so that
# a build that was cut is built again; a root whose stamp names these packages is left as it is.
set -euo pipefail

root=${1:?scripts/newer-root.sh ROOT [PACKAGE]...}
shift
suite=trixie
packages=(postgresql-17 age zstd ceph-mon ceph-osd radosgw ceph-common ca-certificates openssl procps)
stamp=$root.stamp

main() {
  [ "$(cat "$stamp" 2>/dev/null)" = "${packages[*]}" ] || build_once
  local extra=("$@")
  if [ ${#extra[@]} -gt 0 ] && [ "$(cat "$stamp.extra" 2>/dev/null)" != "${extra[*]}" ]; then
    say "adding ${extra[*]}"
    bash "$(dirname "${BASH_SOURCE[0]}")/in-root.sh" env DEBIAN_FRONTEND=noninteractive \
      apt-get -y -qq --no-install-recommends install "${extra[@]}" >&2
    echo "${extra[*]}" >"$stamp.extra"
  fi
}

build_once() {
  [ "$(id -u)" -eq 0 ] || fail "a root directory of Debian 13 can only be made by root: run it as root, or with sudo"
  mkdir -p "$(dirname "$root")"
  exec 8>"$root.lock"
  flock -w 900 8 || fail "another build of $root has been running for 15 minutes"
  [ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ] || return 0
  rm -rf --one-file-system "$root" "$stamp" "$stamp.extra"
  say "making a root directory of Debian 13 in $root"
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
  if need mmdebstrap; then
    # Cluster creation is switched off before the server's package is unpacked; no service can start in there.
    mmdebstrap --variant=apt --mode=root --aptopt='Acquire::Languages "none"' --include="$include" \
      --setup-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d" && echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/pgkit.conf"' \
      --essential-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"' \
      "$suite" "$root" ${mirror:+"$mirror"}
  else
    need debootstrap || fail "neither mmdebstrap nor debootstrap can be installed"
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"}
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    mkdir -p "$root/etc/postgresql-common/createcluster.d"
    echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.d/pgkit.conf"
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends install "${packages[@]}"
  fi
}

need() {
  command -v "$1" >/dev/null && return
  DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends -o DPkg::Lock::Timeout=900 install "$1" debian-archive-keyring ||
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends -o DPkg::Lock::Timeout=900 install "$1" debian-archive-keyring; }
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
