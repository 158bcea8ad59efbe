#!/bin/sh
# The image's entry point: pgkit under tini, which passes signals on and takes in the programs that pgkit starts.
set -eu

# Kubernetes runs it as any uid, such as that of a server's data. One without a name is `postgres`, which initdb is content with.
names=/scratch/.names
if ! getent passwd "$(id -u)" >/dev/null; then
  if mkdir -p "$names" 2>/dev/null; then
    printf 'postgres:x:%s:%s::/scratch:/usr/sbin/nologin\n' "$(id -u)" "$(id -g)" >"$names/passwd"
    chmod 644 "$names/passwd"
  else
    echo "pgkit: /scratch cannot be written to, so that user $(id -u) has no name: mount an emptyDir or tmpfs there" >&2
  fi
fi
exec /usr/bin/tini -- /usr/local/bin/pgkit "$@"
