import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { describeDatabase } from "../support/describe.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

/** Two tables in the middle of foreign keys in both directions, names that need quotes, partitions, settings that hinder. */
const shop = `
CREATE ROLE shop_reader;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE customers (id serial PRIMARY KEY, name text);
INSERT INTO customers (name) SELECT 'customer ' || g FROM generate_series(1, 100) g;
CREATE SCHEMA "my ""shop";
CREATE TABLE "my ""shop"."the (orders); a.b" (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "cust)omer" int CONSTRAINT "of; customer" REFERENCES customers,
  number int DEFAULT 5 UNIQUE, mood mood DEFAULT 'ok', parent bigint REFERENCES "my ""shop"."the (orders); a.b");
INSERT INTO "my ""shop"."the (orders); a.b" ("cust)omer", number, parent)
  SELECT g % 100 + 1, g, NULLIF(g - 1, 0) FROM generate_series(1, 3000) g;
CREATE TABLE lines ("order" bigint NOT NULL REFERENCES "my ""shop"."the (orders); a.b", what text);
INSERT INTO lines SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g;
CREATE INDEX ON "my ""shop"."the (orders); a.b" (mood);
ALTER TABLE "my ""shop"."the (orders); a.b" ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON "my ""shop"."the (orders); a.b" TO shop_reader USING (mood = 'ok');
GRANT SELECT (id, number) ON "my ""shop"."the (orders); a.b" TO shop_reader;
COMMENT ON TABLE "my ""shop"."the (orders); a.b" IS 'orders';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no writes'; END $$;
CREATE TRIGGER touched BEFORE INSERT ON "my ""shop"."the (orders); a.b" FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE events (at date, n int, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY HASH (n);
CREATE TABLE events_2025_0 PARTITION OF events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_2025_1 PARTITION OF events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE events_rest PARTITION OF events DEFAULT;
INSERT INTO events SELECT '2025-12-01'::date + g, g FROM generate_series(1, 60) g;
CREATE MATERIALIZED VIEW per_customer AS SELECT "cust)omer", count(*) FROM "my ""shop"."the (orders); a.b" GROUP BY 1;
CREATE PUBLICATION all_of_it FOR ALL TABLES;
SELECT lo_from_bytea(70001, 'large');
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
  EXECUTE format('ALTER DATABASE %I SET statement_timeout = %L', current_database(), '60s');
END $$;
`;
const orders = '"my ""shop"."the (orders); a.b"';
const ordersArgument = 'my "shop.the (orders); a.b';

let cluster: Cluster;
let pgkit: Pgkit;
const ids: Record<string, string> = {};
let before: Awaited<ReturnType<typeof describeDatabase>>;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({
    whole: { cluster },
    parts: { cluster, settings: ["wholeBelow: 1KiB"] },
  });
  await cluster.psql("CREATE DATABASE shop");
  await cluster.psql(shop, "shop");
  for (const instance of ["whole", "parts"]) ids[instance] = await pgkit.backup("shop", instance);
  before = await describeDatabase(cluster, "shop");
  await cluster.psql("CREATE DATABASE pristine TEMPLATE shop");
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await cluster.psql("DROP DATABASE IF EXISTS shop WITH (FORCE)");
  await cluster.psql("CREATE DATABASE shop TEMPLATE pristine");
  await cluster.psql("ALTER DATABASE shop SET default_transaction_read_only = on");
});

const live = (sql: string) => cluster.psql(`SET transaction_read_only = off; ${sql}`, "shop");
const restore = (instance: string, ...args: string[]) =>
  pgkit.run(["restore", "shop", "--instance", instance, "--backup", ids[instance] ?? "", "--json", ...args]);

describe.each(["whole", "parts"])("single tables out of a backup as %s", (instance) => {
  it("a dropped table comes back with all that belonged to it, and the foreign keys in both directions", async () => {
    await live(`DROP TABLE ${orders} CASCADE`);
    const ran = await restore(instance, "--table", ordersArgument);
    expect(ran.stderr).toBe("");
    expect(JSON.parse(ran.stdout)).toMatchObject({ tables: 1, rows: 3000, notRestored: [] });
    const after = await describeDatabase(cluster, "shop");
    const gone = before.schema.filter((each) => !after.schema.includes(each));
    // The view over it went with it, by CASCADE; nobody asked for that.
    expect(gone.filter((each) => !each.includes("per_customer"))).toEqual([]);
    expect(after.rows).toEqual({ ...before.rows, "public.per_customer": undefined });
    expect(after.sequences).toEqual(before.sequences);
    await live(`ALTER TABLE ${orders} DISABLE TRIGGER ALL; INSERT INTO ${orders} (number) VALUES (-1)`);
    expect(await databases()).toEqual(["postgres", "pristine", "shop"]);
  });

  it("a foreign key that the live rows no longer fit is named, and the table is there", async () => {
    await live(
      `DROP TABLE ${orders} CASCADE; DELETE FROM customers WHERE id = 7; INSERT INTO lines VALUES (99999, 'new')`,
    );
    const ran = await restore(instance, "--table", ordersArgument);
    expect(ran.status).toBe(3);
    const { notRestored } = JSON.parse(ran.stdout) as { notRestored: string[] };
    expect(notRestored).toHaveLength(2);
    expect(notRestored.join("\n")).toMatch(
      /"of; customer" FOREIGN KEY \("cust\)omer"\) REFERENCES public.customers\(id\)/,
    );
    expect(notRestored.join("\n")).toContain("ADD CONSTRAINT lines_order_fkey");
    expect(await cluster.psql(`SELECT count(*) FROM ${orders}`, "shop")).toBe("3000");
  });

  it("a serial's next value does not collide with the rows that came back", async () => {
    await live("DROP TABLE customers CASCADE");
    expect((await restore(instance, "--table", "customers")).status).toBe(0);
    expect(await live("INSERT INTO customers (name) VALUES ('new') RETURNING id")).toBe("101");
  });

  it("a partitioned table comes back with its partitions and their rows", async () => {
    await live("DROP TABLE events");
    const ran = await restore(instance, "--table", "public.events");
    expect(JSON.parse(ran.stdout)).toMatchObject({ tables: 5, rows: 60 });
    const after = await describeDatabase(cluster, "shop");
    expect(after.schema).toEqual(before.schema);
    expect(after.rows).toEqual(before.rows);
  });

  it("a dropped partition comes back into its table, with its part of the indexes", async () => {
    await live("DROP TABLE events_2025");
    expect(await restore(instance, "--table", "events_2025")).toMatchObject({ stderr: "", status: 0 });
    const after = await describeDatabase(cluster, "shop");
    expect(after.schema).toEqual(before.schema);
    expect(after.rows).toEqual(before.rows);
  });

  it("a partition whose place rows of the live database have taken is there beside it, and that is said", async () => {
    await live("DROP TABLE events_2025; INSERT INTO events VALUES ('2025-12-24', 1)");
    const ran = await restore(instance, "--table", "events_2025");
    expect(ran.status).toBe(3);
    expect(JSON.parse(ran.stdout).notRestored).toEqual([
      expect.stringMatching(/^ALTER TABLE ONLY public.events ATTACH PARTITION public.events_2025 .*default partition/),
    ]);
    expect(await cluster.psql("SELECT count(*) FROM events_2025", "shop")).toBe("30");
  });

  it("a table that is there is refused, and left alone", async () => {
    await live("UPDATE customers SET name = 'changed' WHERE id = 1");
    const ran = await restore(instance, "--table", "customers", "--table", "lines");
    expect(ran.status).toBe(21);
    expect(ran.stderr).toContain("customers");
    expect(await cluster.psql("SELECT name FROM customers WHERE id = 1", "shop")).toBe("changed");
  });

  it("under another name: the whole schema, and the rows of the table alone", async () => {
    const name = `only ${instance}`;
    expect(await restore(instance, "--table", ordersArgument, "--table", "events", "--as", name)).toMatchObject({
      stderr: "",
      status: 0,
    });
    const { rows, schema, sequences } = await describeDatabase(cluster, name);
    expect(rows).toMatchObject({
      [orders]: before.rows[orders],
      "public.lines": "",
      "public.customers": "",
      "public.events_rest": before.rows["public.events_rest"],
    });
    expect(before.schema.filter((each) => !schema.includes(each) && !/FOREIGN KEY|FK CONSTRAINT/.test(each))).toEqual(
      [],
    );
    expect(sequences).toEqual(before.sequences);
    await cluster.psql(`DROP DATABASE "${name}"`);
  });

  it("--schema-only brings everything but the rows", async () => {
    const name = `schema ${instance}`;
    expect(await restore(instance, "--schema-only", "--as", name)).toMatchObject({ stderr: "", status: 0 });
    const { rows, schema } = await describeDatabase(cluster, name);
    expect(schema).toEqual(before.schema);
    expect(Object.values(rows).join("")).toBe("");
    await cluster.psql(`DROP DATABASE "${name}"`);
  });
});

it("what is asked for and is not there is refused before anything is done", async () => {
  expect(await restore("whole", "--table", "nowhere")).toMatchObject({ status: 10 });
  expect(await restore("whole", "--table", "lines", "--replace")).toMatchObject({ status: 2 });
  await cluster.psql("DROP DATABASE shop WITH (FORCE)");
  expect(await restore("whole", "--table", "lines")).toMatchObject({ status: 10 });
  expect(await databases()).toEqual(["postgres", "pristine"]);
});

async function databases(): Promise<string[]> {
  return (await cluster.psql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")).split("\n");
}
