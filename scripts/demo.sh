#!/usr/bin/env bash
# Installs what is missing, builds, and runs `pgkit demo`: a scratch server, three databases, a backup, a disaster, a
# restore, the proof. Touches nothing of yours; the second run is quick.
#
#   scripts/demo.sh [FOLDER]   for the demo's repository; by default one in your data folder
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$project/scripts/setup.sh" packages system </dev/null
export PATH=$project/node_modules/.bin:$PATH
node "$project/scripts/build.ts" >/dev/null
# In place of this shell, so that a signal for the demo ends the demo.
exec node "$project/bin/pgkit.js" demo "$@"
