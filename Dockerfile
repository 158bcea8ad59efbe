# pgkit with PostgreSQL's client programs of every major in support, age and zstd.
#
#   docker build -t pgkit .
#   docker run --rm --read-only --tmpfs /scratch --env-file pgkit.env -v /srv/backups:/backups pgkit backup logical
#
# It runs as user 65532 with a read-only root file system; only TMPDIR (/scratch) and a folder used as repository are written to.
# `pgkit verify --deep` also needs the server programs: docker build --build-arg SERVER_MAJORS="17 18" .

FROM node:24-trixie-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
# No install scripts: the `node` package would fetch a second Node.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts/build.ts scripts/
COPY src src
RUN node scripts/build.ts

FROM node:24-trixie-slim
ARG CLIENT_MAJORS="15 16 17 18"
ARG SERVER_MAJORS=""
RUN set -eux; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update; \
    apt-get install -y --no-install-recommends ca-certificates postgresql-common tini age zstd; \
    # All majors come from PostgreSQL's own package source, which this script of Debian's adds.
    /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y; \
    # A server package would make a cluster and start it.
    mkdir -p /etc/postgresql-common/createcluster.d; \
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/pgkit.conf; \
    apt-get install -y --no-install-recommends \
      $(printf 'postgresql-client-%s ' $CLIENT_MAJORS) $([ -z "$SERVER_MAJORS" ] || printf 'postgresql-%s ' $SERVER_MAJORS); \
    for major in $CLIENT_MAJORS; do "/usr/lib/postgresql/$major/bin/pg_dump" --version; done; \
    rm -rf /var/lib/apt/lists/* /usr/local/lib/node_modules /opt/yarn* \
      /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn /usr/local/bin/yarnpkg; \
    # initdb and libpq want a name for the user.
    echo 'pgkit:x:65532:65532:pgkit:/scratch:/usr/sbin/nologin' >> /etc/passwd; \
    echo 'pgkit:x:65532:' >> /etc/group; \
    install -d -o 65532 -g 65532 -m 0700 /scratch

COPY package.json /opt/pgkit/
COPY bin /opt/pgkit/bin
COPY --from=build /src/dist /opt/pgkit/dist
RUN ln -s /opt/pgkit/bin/pgkit.js /usr/local/bin/pgkit && pgkit --version

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="pgkit" \
      org.opencontainers.image.description="Keeps the PostgreSQL databases of a Kubernetes platform recoverable and movable" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"

ENV TMPDIR=/scratch HOME=/scratch
USER 65532:65532
WORKDIR /
# tini passes signals on, and takes in the programs that pgkit starts.
ENTRYPOINT ["/usr/bin/tini", "--", "pgkit"]
CMD ["--help"]
