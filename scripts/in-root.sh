#!/usr/bin/env bash
# Runs a command inside the root directory of Debian 13 that `scripts/setup.sh root` makes.
#
#   scripts/in-root.sh COMMAND...
#
# The project and the folder for temporary files are at the same place inside; processes and network are the machine's
# own. The mounts are in a namespace that ends with the command's last process, however that ends, so none can leak.
# PGKIT_ROOT names another root directory: its path, or its name in the cache folder.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${PGKIT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pgkit}
root=${PGKIT_ROOT:-trixie}
[[ $root = /* ]] || root=$cache/roots/$root

fail() {
  echo "in-root: $*" >&2
  exit 1
}

[ $# -gt 0 ] || fail "scripts/in-root.sh COMMAND..."
if [ "${PGKIT_IN_ROOT:-}" != entering ]; then
  [ -e "$root.stamp" ] || fail "there is no root directory in $root: run scripts/setup.sh root (newest for Debian testing)"
  [ "$(id -u)" -eq 0 ] || fail "entering a root directory needs root: run it as root, or with sudo"
  PGKIT_IN_ROOT=entering exec unshare --mount --propagation private -- "$BASH" "${BASH_SOURCE[0]}" "$@" ||
    fail "this machine refuses a mount namespace (unshare --mount); a container needs CAP_SYS_ADMIN for it"
fi

show() {
  mkdir -p "$root$1"
  mount "--${2:-bind}" "$1" "$root$1" || fail "this machine refuses to bind-mount $1 into $root; a container needs CAP_SYS_ADMIN for it"
}

tmp=${TMPDIR:-/tmp}
# A mount of its own, so that a command inside can do as we do here.
mount --bind "$root" "$root" || fail "this machine refuses to bind-mount; a container needs CAP_SYS_ADMIN for it"
show /proc rbind
show /sys rbind
show /dev rbind
show "${tmp%/}"
[ "${tmp%/}" = /tmp ] || show /tmp
show "$project"

here=$PWD
[ -d "$root$here" ] || here=$project
export PATH=$project/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PGKIT_IN_ROOT=yes
unset PGKIT_ROOT
exec chroot "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$here" "$@"
