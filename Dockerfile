# pgkit with the programs of every PostgreSQL in support (servers and clients of 15 to 18), age and zstd.
#
#   docker build -t pgkit .
#   docker run --rm --read-only --tmpfs /scratch --env-file pgkit.env -v /srv/backups:/backups pgkit backup logical
#
# It runs as user 65532 or any other, with a read-only root file system and no capability; only /scratch, and a folder
# used as repository, are written to. --build-arg MAJORS="17" makes it smaller.
# scripts/image-root.sh runs the instructions of the last stage in a root directory, where no container engine is: it knows
# those that are here, each on one line, and refuses others.

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
ARG MAJORS="15 16 17 18"
ARG SOURCE=pgdg
COPY scripts/image /usr/local/lib/pgkit
RUN /usr/local/lib/pgkit/packages.sh
RUN /usr/local/lib/pgkit/runtime.sh /usr/local/bin/node
RUN /usr/local/lib/pgkit/layout.sh

COPY package.json /opt/pgkit/
COPY bin /opt/pgkit/bin
COPY --from=build /src/dist /opt/pgkit/dist
RUN pgkit --version

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pgkit"
LABEL org.opencontainers.image.description="Keeps the PostgreSQL databases of a Kubernetes platform recoverable and movable"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.version="$VERSION"
LABEL org.opencontainers.image.revision="$REVISION"

# glibc keeps what each thread has freed for that thread: 20 MB of a streamer.
ENV MALLOC_ARENA_MAX=1
ENV TMPDIR=/scratch
ENV HOME=/scratch
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/local/lib/pgkit/entrypoint.sh"]
CMD ["--help"]
