#!/usr/bin/env bash
# Measures pgkit beside the programs that users have today, in one run, on PostgreSQL of the newer root directory (the
# older majors' pg_dump has no zstd to compare with). `npm run bench -- big small start` runs single parts.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh packages root
npx --no-install node scripts/build.ts
exec bash scripts/in-root.sh node bench/run.ts "$@"
