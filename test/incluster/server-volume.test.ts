import { describe, expect, test } from "vitest";
import { serverVolumeOf } from "../../src/incluster/server-volume.ts";
import type { Container, PodSpec, Workload } from "../../src/kube/workloads.ts";

interface Server {
  container?: Partial<Container>;
  pod?: Partial<PodSpec>;
  claims?: string[];
}

function statefulSet({ container = {}, pod = {}, claims = ["data"] }: Server): Workload {
  const containers = [{ name: "postgresql", ...container }];
  const volumeClaimTemplates = claims.map((name) => ({ metadata: { name } }));
  return {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name: "pg", namespace: "databases" },
    spec: { template: { spec: { containers, ...pod } }, volumeClaimTemplates },
  };
}

const mount = (mountPath: string, subPath?: string) => [
  { name: "data", mountPath, ...(subPath === undefined ? {} : { subPath }) },
];

describe("where a server has its data", () => {
  test.each<[string, Server, number, object]>([
    [
      "Bitnami's chart",
      {
        container: {
          image: "docker.io/bitnami/postgresql:17.2.0",
          env: [{ name: "PGDATA", value: "/bitnami/postgresql/data" }],
          volumeMounts: [{ name: "empty-dir", mountPath: "/tmp" }, ...mount("/bitnami/postgresql")],
          securityContext: { runAsUser: 1001, runAsGroup: 1001 },
        },
        pod: { securityContext: { fsGroup: 1001 } },
      },
      17,
      { dataDir: "/bitnami/postgresql/data", claim: "data-pg-0", user: 1001, group: 1001, isRoot: false },
    ],
    [
      "Bitnami's image without a word of its data",
      { container: { image: "bitnamilegacy/postgresql:15", volumeMounts: mount("/bitnami/postgresql") } },
      15,
      { dataDir: "/bitnami/postgresql/data", user: 1001, isRoot: false },
    ],
    [
      "the image postgres with PGDATA in a folder of the volume",
      {
        container: {
          image: "postgres:16-alpine",
          env: [{ name: "PGDATA", value: "/var/lib/postgresql/data/pgdata" }],
          volumeMounts: mount("/var/lib/postgresql/data"),
        },
      },
      16,
      { dataDir: "/var/lib/postgresql/data/pgdata", user: 0, isRoot: false, mountPath: "/var/lib/postgresql/data" },
    ],
    [
      "the image postgres on the volume's root",
      { container: { image: "postgres:16", volumeMounts: mount("/var/lib/postgresql/data") } },
      16,
      { dataDir: "/var/lib/postgresql/data", user: 0, isRoot: true },
    ],
    [
      "the image postgres of 18, below the folder of its major",
      {
        container: { image: "postgres:18", volumeMounts: mount("/var/lib/postgresql") },
        pod: { securityContext: { runAsUser: 999 } },
      },
      18,
      { dataDir: "/var/lib/postgresql/18/docker", user: 999, isRoot: false },
    ],
    [
      "a folder of the volume that is mounted as the data directory",
      { container: { image: "postgres:15", volumeMounts: mount("/var/lib/postgresql/data", "pgdata") } },
      15,
      { dataDir: "/pgkit-volume/pgdata", mountPath: "/pgkit-volume", isRoot: false },
    ],
    [
      "another image by its -D, on a claim by name",
      {
        container: { image: "registry/db:3", args: ["postgres", "-D", "/srv/pg/main"], volumeMounts: mount("/srv") },
        pod: { volumes: [{ name: "data", persistentVolumeClaim: { claimName: "own" } }] },
        claims: [],
      },
      15,
      { dataDir: "/srv/pg/main", claim: "own", mountPath: "/srv" },
    ],
  ])("is known of %s", (_, server, major, expected) => {
    expect(serverVolumeOf(statefulSet(server), major)).toMatchObject(expected);
  });

  test("is what the configuration says, over what the Pod shows", () => {
    const server = statefulSet({ container: { image: "x", volumeMounts: mount("/pg") } });
    expect(serverVolumeOf(server, 15, { dataDir: "/pg/here", user: 26 })).toMatchObject({
      dataDir: "/pg/here",
      user: 26,
    });
  });

  test("is found beside an exporter, and refused where it is not clear or on no claim", () => {
    const postgres = { name: "db", image: "postgres:15", volumeMounts: mount("/var/lib/postgresql/data", "d") };
    const exporter = { name: "metrics", image: "bitnami/postgres-exporter:0.15" };
    const beside = statefulSet({ pod: { containers: [exporter, postgres] } });
    expect(serverVolumeOf(beside, 15)).toMatchObject({ container: "db" });
    const two = statefulSet({ pod: { containers: [postgres, { ...postgres, name: "other" }] } });
    expect(() => serverVolumeOf(two, 15)).toThrow("which of its containers is PostgreSQL: db, other");
    expect(() => serverVolumeOf(statefulSet({ container: postgres, claims: [] }), 15)).toThrow(
      "no PersistentVolumeClaim",
    );
    expect(() => serverVolumeOf(statefulSet({ container: { image: "postgres:15" } }), 15)).toThrow(
      "mounts no volume at",
    );
  });
});
