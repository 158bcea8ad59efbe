#!/usr/bin/env bash
# Proves what can be proven of the image without a container engine: runs the Dockerfile's last stage in a root directory of
# the same Debian, and pgkit in it as a container would.
#
#   scripts/image-root.sh build                                 makes the root directory, in the cache folder; quick when it is there
#   scripts/image-root.sh run [OPTION...] [--] ARGUMENT...      runs the image's entry point with these arguments
#     --user UID[:GID]        another user than the Dockerfile's, as runAsUser does
#     --mount HOST:INSIDE     a folder or file of this machine, to be written to; with `:ro` behind it, only read
#     --env NAME=VALUE        a variable; nothing else of this environment comes in
#     --command PROGRAM       another program than the entry point
#
# Inside, the root file system is read-only, /scratch is a tmpfs, the capabilities are dropped from the bounding set, and
# no_new_privs is set; the network is the machine's. What differs from the image: PostgreSQL is Debian's own, of one major, where PGDG's packages cannot be
# had; Node is the project's, not the base image's; there is no seccomp profile and no cgroup.
# The instructions come from the Dockerfile. One that this script does not know is an error, so that neither can drift.
# PGKIT_IMAGE_DIST names the folder of the bundle, by default dist.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${PGKIT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pgkit}
root=$cache/roots/image
suite=trixie
# Before the Dockerfile's instructions; kustomize is for tests of what is in k8s/.
packages=(kustomize)
major=17
node=$project/node_modules/node/bin/node
dist=${PGKIT_IMAGE_DIST:-$project/dist}
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
environment=("PATH=$path")
user=0:0
entry=()

main() {
  case ${1:-} in
    build) build ;;
    run) shift && run "$@" ;;
    inside) shift && inside "$@" ;;
    *) fail "scripts/image-root.sh build | run [--user UID[:GID]] [--mount HOST:INSIDE[:ro]] [--env NAME=VALUE] ARGUMENT..." ;;
  esac
}

# --- The Dockerfile -----------------------------------------------------------------------------------------------

# Its last stage, one instruction a line.
instructions() {
  tac "$project/Dockerfile" | sed '/^FROM /q' | tac | sed '/^ *\(#.*\)\?$/d'
}

# Those that make the root directory that is kept: all that run before the bundle is there.
lasting() { instructions | sed '/^COPY package.json/,$d'; }
passing() { instructions | sed -n '/^COPY package.json/,$p'; }

# Carries out instructions from stdin; `copied` are all that were bound into the root.
carry_out() {
  local instruction rest
  while read -r instruction rest <&3; do
    case $instruction in
      FROM) [[ $rest == node:24-$suite-slim* ]] || fail "Dockerfile: the base image is '$rest', and this script makes $suite with Node 24" ;;
      ARG | LABEL) ;;
      ENV) environment+=("$rest") ;;
      USER) user=$rest ;;
      WORKDIR) [ "$rest" = / ] || fail "Dockerfile: WORKDIR is $rest, and this script knows / alone" ;;
      RUN) in_root "$rest" ;;
      # shellcheck disable=SC2086 # words without blanks
      COPY) copy $rest ;;
      ENTRYPOINT) mapfile -t entry < <(jq -r '.[]' <<<"$rest") ;;
      CMD) ;;
      *) fail "Dockerfile: this script does not know the instruction '$instruction $rest'" ;;
    esac
  done 3<&0
}

in_root() {
  [[ $1 != *\\ ]] || fail "Dockerfile: RUN takes one line: '$1'"
  env -i "${environment[@]}" MAJORS=$major SOURCE=debian chroot "$root" sh -c "$1" </dev/null
}

# Bound rather than copied: what is in the project is what runs.
copy() {
  local from=$1 to=$2
  if [ "$from" = --from=build ]; then
    [ "$2" = /src/dist ] || fail "Dockerfile: COPY --from=build $2, and this script knows /src/dist alone"
    from=$dist to=$3
  else
    from=$project/$from
  fi
  [ -e "$from" ] || fail "there is no $from: node scripts/build.ts makes the bundle"
  case $to in */) to=$to$(basename "$from") ;; esac
  bind "$from" "$to" ro
}

bind() {
  if [ -d "$1" ]; then mkdir -p "$root$2"; elif [ ! -e "$root$2" ]; then mkdir -p "$(dirname "$root$2")" && touch "$root$2"; fi
  mount --bind "$1" "$root$2"
  [ "$3" != ro ] || mount -o remount,bind,ro "$root$2"
}

# --- The root directory -------------------------------------------------------------------------------------------

build() {
  [ "$(id -u)" -eq 0 ] || fail "a root directory can only be made by root: run it as root, or with sudo"
  local wanted
  wanted=$({ echo "${packages[*]}" && lasting && cat "$project"/scripts/image/* "$node"; } | sha256sum)
  [ "$(cat "$root.image" 2>/dev/null)" != "$wanted" ] || return 0
  mkdir -p "$(dirname "$root")"
  exec 7>"$root.image.lock"
  flock -w 900 7 || fail "another build of $root has been running for 15 minutes"
  [ "$(cat "$root.image" 2>/dev/null)" != "$wanted" ] || return 0
  # The instructions are for a new one.
  if [ -e "$root.image.begun" ]; then rm -f "$root.image" "$root.stamp"; fi
  bash "$project/scripts/newer-root.sh" "$root" $suite "${packages[@]}"
  touch "$root.image.begun"
  echo "setup: running the Dockerfile's instructions in $root" >&2
  unshare --mount --propagation private -- "$BASH" "${BASH_SOURCE[0]}" inside build >"$root.image.log" 2>&1 7>&- || {
    tail -n 20 "$root.image.log" >&2
    fail "the instructions of the Dockerfile failed in $root (the whole log is $root.image.log)"
  }
  echo "$wanted" >"$root.image"
}

build_inside() {
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  # The base image's Node.
  install -m 755 "$node" "$root/usr/local/bin/node"
  lasting | carry_out
}

# --- A run --------------------------------------------------------------------------------------------------------

run() {
  [ -e "$root.image" ] || fail "there is no root directory in $root: scripts/image-root.sh build"
  # Whatever is started in it ends with it.
  exec unshare --mount --pid --fork --kill-child --propagation private -- "$BASH" "${BASH_SOURCE[0]}" inside run "$@"
}

inside() {
  local what=$1
  shift
  "${what}_inside" "$@"
}

run_inside() {
  local as='' mounts=() variables=() program=''
  while [ $# -gt 0 ]; do
    case $1 in
      --user) as=$2 && shift 2 ;;
      --mount) mounts+=("$2") && shift 2 ;;
      --env) variables+=("$2") && shift 2 ;;
      --command) program=$2 && shift 2 ;;
      --) shift && break ;;
      *) break ;;
    esac
  done
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  devices
  carry_out < <(lasting | grep -v '^RUN ')
  carry_out < <(passing) >/dev/null
  environment+=("${variables[@]}")
  mount -t tmpfs -o mode=0777,size=1g,nosuid,nodev tmpfs "$root/scratch"
  local each from to how
  for each in "${mounts[@]}" /etc/resolv.conf:/etc/resolv.conf:ro /etc/hosts:/etc/hosts:ro; do
    IFS=: read -r from to how <<<"$each"
    [ ! -e "$from" ] || bind "$from" "$to" "${how:-rw}"
  done
  mount -o remount,bind,ro "$root"
  as=${as:-$user}
  [ -z "$program" ] || entry=("$program")
  exec env -i "${environment[@]}" chroot "$root" setpriv --reuid "${as%:*}" --regid "${as#*:}" --clear-groups \
    --bounding-set=-all --inh-caps=-all --no-new-privs -- "${entry[@]}" "$@"
}

# As a container has them: a few, and shared memory.
devices() {
  mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
  local name
  for name in null zero full random urandom; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
  done
  mkdir -m 1777 "$root/dev/shm"
  mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/dev/shm"
  ln -s /proc/self/fd "$root/dev/fd"
}

fail() {
  echo "image-root: $*" >&2
  exit 1
}

main "$@"
