#!/bin/sh
# Makes Node relocatable: /opt/pgkit/runtime holds it with its libraries and its own program loader, so that a copy of
# /opt/pgkit runs in any container on Linux, also one with an older libc or with musl (`archive_command` of a server whose
# image is not ours). It must lie in /opt/pgkit there too: the kernel takes the loader's path as it is. Run as root.
set -eu

node=${1:?scripts/image/runtime.sh NODE}
runtime=/opt/pgkit/runtime
had_patchelf=$(command -v patchelf || true)
if [ -z "$had_patchelf" ]; then
  apt-get -q update
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends patchelf
fi
mkdir -p "$runtime/bin" "$runtime/lib"
loader=$(patchelf --print-interpreter "$node")
cp -L "$loader" "$runtime/lib/"
for library in $(ldd "$node" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p'); do cp -L "$library" "$runtime/lib/"; done
cp -L "$node" "$runtime/bin/node"
# An rpath of the old kind: it also holds for the libraries of the libraries.
# shellcheck disable=SC2016 # the loader's variable
patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "$runtime/bin/node"
# In this order, each by itself: patchelf 0.18 makes a Node that crashes of both at once.
patchelf --set-interpreter "$runtime/lib/$(basename "$loader")" "$runtime/bin/node"
"$runtime/bin/node" --version
if [ -z "$had_patchelf" ]; then
  apt-get -q purge -y --auto-remove patchelf
  rm -rf /var/lib/apt/lists/*
fi
