import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { timelineOf, walFileKind } from "../lib/lsn.ts";
import { type Clock, systemClock } from "../lib/time.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { findWal, type LineageFacts, listWal, readWal, type WalFile } from "../repo/wal.ts";
import type { SignalOption } from "../store/store.ts";
import { checkSegment } from "./segment.ts";

/** A repository that may have the WAL of a server. */
export interface Source {
  readonly where: string;
  /** `undefined`: the repository says that it knows nothing of this server. */
  readonly open: () => Promise<OpenSource | undefined>;
}

export interface OpenSource {
  repository: RepositoryReader;
  lineage: LineageFacts;
}

export interface FetchOptions extends SignalOption {
  clock?: Clock | undefined;
  /** Gives no segment out of a partial one, and does not look whether an absent one is a gap. */
  wholeOnly?: boolean | undefined;
  /** Whether recovery has a segment without us; one that is absent is no gap then. */
  hasOwn?: ((name: string, lineage: LineageFacts) => Promise<boolean>) | undefined;
}

/** How long a segment may come later than one behind it, as several are stored at once. */
const overtakingMs = 20_000;
/** What was stored longer ago has not been overtaken: the segment before it is missing. */
const recentMs = 10 * 60_000;

/**
 * A WAL file's content from one repository, checked; of the last segment of a timeline, where only its `.partial` is
 * stored, that one, filled up with zeros. `undefined` only where the store proved that there is no such file and nothing
 * behind it either: a segment that is absent while a later one of its timeline is there fails with `wal-gap`, as
 * recovery would take it for the end.
 */
export async function fetchWal(
  repository: RepositoryReader,
  lineage: LineageFacts,
  name: string,
  options: FetchOptions = {},
): Promise<Buffer | undefined> {
  return await fetchFrom([{ where: repository.where, open: async () => ({ repository, lineage }) }], name, options);
}

/**
 * As `fetchWal`, from the first repository that has the file whole. `undefined` only where every repository has answered,
 * at least one knows this server, and none has the file.
 */
export async function fetchFrom(
  sources: readonly Source[],
  name: string,
  { clock = systemClock, wholeOnly = false, hasOwn, signal }: FetchOptions = {},
): Promise<Buffer | undefined> {
  const deadlineMs = clock.monotonicMs() + overtakingMs;
  for (;;) {
    const { content, opened } = await lookEverywhere(sources, name, { signal });
    if (content !== undefined || wholeOnly || walFileKind(name) !== "segment") return content;
    const later = await laterSegment(opened, name, { signal });
    if (later === undefined) return await fromPartial(opened, name, { signal });
    const [first] = opened;
    if (first !== undefined && (await hasOwn?.(name, first.lineage)) === true) return undefined;
    const recent = Math.abs(clock.now().getTime() - later.file.storedAt.getTime()) < recentMs;
    if (!recent || clock.monotonicMs() > deadlineMs) throw gap(name, later);
    await clock.delay(500, signal);
  }
}

/** The size of the server's segments. Fails as `fetchFrom` does where no repository knows the server. */
export async function segmentBytesOf(sources: readonly Source[]): Promise<number> {
  for (const source of sources) {
    const open = await source.open();
    if (open !== undefined) return open.lineage.segmentBytes;
  }
  throw unknownServer(sources, "what comes next");
}

async function lookEverywhere(
  sources: readonly Source[],
  name: string,
  options: SignalOption,
): Promise<{ content: Buffer | undefined; opened: OpenSource[] }> {
  const opened: OpenSource[] = [];
  let failure: unknown;
  for (const source of sources) {
    try {
      const open = await source.open();
      if (open === undefined) continue;
      opened.push(open);
      const file = await findWal(open.repository, open.lineage, name, options);
      if (file !== undefined) return { content: await readChecked(open, file, options), opened };
    } catch (error) {
      options.signal?.throwIfAborted();
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
  if (opened.length > 0) return { content: undefined, opened };
  throw unknownServer(sources, name);
}

async function readChecked({ repository, lineage }: OpenSource, file: WalFile, options: SignalOption): Promise<Buffer> {
  const content = await readWal(repository, file, options);
  if (file.kind !== "segment") return content;
  try {
    checkSegment(content, file.name, lineage);
    return content;
  } catch (cause) {
    if (!isPgkitError(cause, "wal-invalid")) throw cause;
    const { hint = "" } = cause;
    throw new PgkitError("wal-invalid", `${file.key} in ${repository.where}: ${cause.message}`, { hint, cause });
  }
}

interface Later {
  file: WalFile;
  where: string;
}

/** The first whole segment behind `name` on its timeline, in any of the repositories. */
async function laterSegment(
  opened: readonly OpenSource[],
  name: string,
  options: SignalOption,
): Promise<Later | undefined> {
  for (const { repository, lineage } of opened) {
    for await (const file of listWal(repository, lineage, { ...options, timeline: timelineOf(name), after: name })) {
      if (file.kind === "segment") return { file, where: repository.where };
    }
  }
  return undefined;
}

/** The longest partial segment of that name, as the whole segment it would have become. */
async function fromPartial(
  opened: readonly OpenSource[],
  name: string,
  options: SignalOption,
): Promise<Buffer | undefined> {
  let longest: Buffer | undefined;
  for (const open of opened) {
    const file = await findWal(open.repository, open.lineage, `${name}.partial`, options);
    if (file === undefined) continue;
    const content = await readWal(open.repository, file, options);
    if (longest !== undefined && content.length <= longest.length) continue;
    const { segmentBytes } = open.lineage;
    longest = Buffer.concat([content], Math.max(segmentBytes, content.length));
    checkSegment(longest, name, open.lineage);
  }
  return longest;
}

function gap(name: string, { file, where }: Later): PgkitError {
  return new PgkitError(
    "wal-gap",
    `${name} is not in ${where}, and ${file.name} behind it is: recovery would end short`,
    {
      hint: "is the segment still on the server, or in another repository? pgkit wal status shows the gaps; a restore to a target before it needs it not",
    },
  );
}

function unknownServer(sources: readonly Source[], name: string): PgkitError {
  const where = sources.map((source) => source.where).join(" and ");
  return new PgkitError(
    "system-mismatch",
    `${where} has no WAL of this server, so that it cannot say that ${name} is absent`,
    {
      hint: "are the repository and the instance's name right? pgkit list shows what is there",
    },
  );
}
