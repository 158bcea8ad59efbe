#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests.
#
#   scripts/test.sh           all of them, then those that face PostgreSQL again beside a newer one (in a root directory),
#                             and a few beside the newest
#   scripts/test.sh FILTER..  vitest's own arguments; on this machine alone
#
# The last line says how many tests passed, failed and, where any did not run, were skipped: `N passed, N failed`. A test
# that was skipped, and a run without tests, fail.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$project"
results=$(mktemp -d)
# Whoever faces a server's major must hold for a newer one too.
newer=(test/postgres test/backup test/wal test/restore test/move test/stories)
newer+=(test/prove/check-server test/prove/check-instance test/prove/check-archiving test/prove/verify-base)
newer+=(test/faults/base-kill test/faults/base-sweep)
# What differs from major to major, once each: base, incremental, streamed, recovered, dumped, moved.
newest=(test/backup/base-incremental test/restore/cluster-chain test/stories/pitr-incremental test/stories/pitr-resume)
newest+=(test/wal/segment test/wal/slot-idle test/wal/pitr-status test/stories/everything test/move/there-and-back)
ran=()

main() {
  trap cleanup EXIT
  if [ $# -gt 0 ]; then
    set_up packages system proxies
  else
    set_up packages system proxies s3 azure root newest
    set_up image
  fi
  export PATH=$project/node_modules/.bin:$PATH
  node scripts/build.ts >&2
  start_keeper
  run host vitest run "$@"
  # Kills of pgkit itself, which are the same on every major, are tried on the machine's own alone; so is a move from that to the newer one,
  # and what is Kubernetes' part.
  local once=(--exclude "**/move-kill*" --exclude "**/newer-target*" --exclude "**/move-secret*" --exclude "**/stories/kubernetes*")
  [ $# -gt 0 ] || PGKIT_TEST_MAJOR=17 run root scripts/in-root.sh vitest run "${newer[@]}" "${once[@]}"
  [ $# -gt 0 ] || PGKIT_ROOT=forky PGKIT_TEST_MAJOR=18 run newest scripts/in-root.sh vitest run "${newest[@]}"
  stop_keeper
  node scripts/test-summary.ts "${ran[@]}"
}

# All at once: each mostly waits for another's disk or network. Says nothing when nothing is to do.
set_up() {
  local part pids=() pid failed=0
  for part in "$@"; do
    bash scripts/setup.sh "$part" </dev/null &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  [ $failed -eq 0 ] || exit 1
}

# One for both runs: a server that the first has started serves the second. It ends when we do: its input is ours.
start_keeper() {
  coproc keeper { exec node test/support/keeper.ts; }
  read -r PGKIT_TEST_SERVERS <&"${keeper[0]}"
  export PGKIT_TEST_SERVERS
}

stop_keeper() {
  local pid=$keeper_PID
  eval "exec ${keeper[1]}>&-"
  wait "$pid" || true
}

# Runs vitest; what came of it is in a file, beside its exit status, for the summary.
run() {
  local name=$1 status=0
  shift
  echo "== $name: $*" >&2
  "$@" --reporter=default --reporter=json --outputFile.json="$results/$name.json" </dev/null || status=$?
  echo $status >"$results/$name.status"
  ran+=("$results/$name")
}

cleanup() { rm -rf "$results"; }

main "$@"
