/** Progress is a value: each use case takes a `Report`; only `src/cli/render.ts` draws it. */
export type Report = (event: ProgressEvent) => void;

/** `task` names one piece of work for its whole life, such as `backup shared/litellm`; it is unique among those under way. */
export type ProgressEvent =
  | { type: "start"; task: string; totalBytes?: number | undefined }
  | { type: "progress"; task: string; bytes: number; totalBytes?: number | undefined; phase?: string | undefined }
  | { type: "done"; task: string; bytes?: number | undefined; seconds: number; summary?: string | undefined }
  | { type: "failed"; task: string; message: string; hint?: string | undefined }
  | { type: "note"; message: string }
  | { type: "warning"; message: string; hint?: string | undefined };
