import { shellWord } from "./archive-command.ts";

/** Seconds after which a prefetcher whose heartbeat stands still counts as dead. */
const patienceS = 30;
const pauseS = 0.02;

/**
 * The text of restore_command for a recovery that a prefetcher feeds: a shell that asks for the file (`NAME.want`) and
 * waits until it is there, laid into pg_wal (`NAME.placed`), proven absent (`NAME.absent`) or not to be had (`NAME.error`:
 * exit 200). It ends with 200 as well when the prefetcher is gone or stands still. Of a segment in pg_wal it says that it
 * is absent (exit 1): PostgreSQL then reads it where it is, and does not wait until the disk has a copy, which takes
 * longer than to replay it. Every other end is above 125, which stops recovery, as PostgreSQL takes anything below for the
 * end of the archive. Absence is never remembered: the note goes with the answer.
 */
export function spoolRestoreCommand(folder: string): string {
  const lines = [
    `d=${shellWord(folder).replaceAll("%", "%%")}; f=$d/%f; n=0; last=;`,
    // No redirection of `:` here: where it fails, dash ends with 2, which would be the end of the archive.
    `[ -e "$f" ] || [ -e "$f.placed" ] || touch "$f.want" || exit 200;`,
    `until [ -e "$f" ]; do`,
    `if [ -e "$f.placed" ]; then`,
    `rm "$f.placed" || exit 200; [ -s "pg_wal/%f" ] || exit 200; echo '${restoredLine("%f")}' >&2; exit 1; fi;`,
    `if [ -e "$f.absent" ]; then rm -f "$f.want" "$f.absent" || exit 200; exit 1; fi;`,
    `if [ -e "$f.error" ]; then exit 200; fi;`,
    `read -r beat <"$d/alive" || exit 200;`,
    `if [ "$beat" = "$last" ]; then n=$((n+1)); else n=0; last=$beat; fi;`,
    `if [ "$n" -ge ${Math.round(patienceS / pauseS)} ]; then exit 200; fi;`,
    `sleep ${pauseS} || exit 200;`,
    `done;`,
    `mv "$f" "%p" || exit 200`,
  ];
  return lines.join(" ");
}

/** In the server's log for each segment, as PostgreSQL itself has it for those it takes from an archive. */
function restoredLine(name: string): string {
  return `LOG:  restored log file "${name}" from archive`;
}
