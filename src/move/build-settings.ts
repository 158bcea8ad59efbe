import type { Session } from "../postgres/session.ts";

/** A session that builds an index may take so much, where the server has been given memory of that order. */
const mostBytes = 256 * 1024 ** 2;

/**
 * The settings by which `jobs` sessions build indexes: each on its own core, without the server's workers, and with more
 * memory than maintenance_work_mem has by default where shared_buffers says that the server has it. Never with less than is
 * set.
 */
export async function buildSettings(session: Session, jobs: number): Promise<Record<string, string>> {
  const [row] = await session.query<{ set: number; shared: number }>(
    `SELECT pg_size_bytes(current_setting('maintenance_work_mem'))::float8 AS set,
       pg_size_bytes(current_setting('shared_buffers'))::float8 AS shared`,
  );
  const { set = 0, shared = 0 } = row ?? {};
  const bytes = Math.max(set, Math.min(mostBytes, Math.floor(shared / 2 / jobs)));
  return {
    maintenance_work_mem: `${Math.floor(bytes / 1024)}kB`,
    ...(jobs > 1 ? { max_parallel_maintenance_workers: "0" } : {}),
  };
}
