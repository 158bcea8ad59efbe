#!/bin/sh
# Installs what the image holds besides Node and pgkit. Run as root by the Dockerfile, and by scripts/image-root.sh in a root directory.
#
#   MAJORS="15 16 17 18"   the majors of PostgreSQL, servers and clients
#   SOURCE=pgdg|debian     where they come from: PostgreSQL's own package source, or Debian's, which has one major
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get -q update
# libnss-extrausers gives a name to a uid that /etc/passwd has none for: see entrypoint.sh.
apt-get -q install -y --no-install-recommends ca-certificates tini age zstd libnss-extrausers postgresql-common
# A server's package would make a cluster and start it.
mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/pgkit.conf
# The script is Debian's own.
[ "$SOURCE" = debian ] || /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y
packages=
for major in $MAJORS; do packages="$packages postgresql-client-$major postgresql-$major"; done
# shellcheck disable=SC2086 # a list of words
apt-get -q install -y --no-install-recommends $packages
for major in $MAJORS; do
  for program in pg_dump pg_receivewal postgres initdb; do "/usr/lib/postgresql/$major/bin/$program" --version; done
done
rm -rf /var/lib/apt/lists/*
