import type { ValueType } from "./values.ts";

/** One row of the option table: everything there is to know of one option. */
export interface Option<T> {
  /** Dotted key in the file; `*` stands for a name, `[]` for each item of a list. */
  readonly key?: string;
  /** As commander takes it: `--config <file>`. */
  readonly flag?: string;
  readonly env?: string;
  readonly type: ValueType<T>;
  readonly default?: T;
  /** The default as the reference tells it, where it is not `default` itself. */
  readonly defaultDoc?: string;
  /** Neither the value nor a part of it is ever printed. */
  readonly secret?: true;
  /** One sentence for `--help` and the reference, without a full stop. */
  readonly doc: string;
}

export type ValueOf<O> = O extends { default: unknown; type: ValueType<infer T> }
  ? T
  : O extends { type: ValueType<infer T> }
    ? T | undefined
    : never;

/** The types of a group of rows, by their names; a row without a default may be `undefined`. */
export type ValuesOf<Rows> = { readonly [Name in keyof Rows]: ValueOf<Rows[Name]> };

/** Checks a row against its own type and keeps what is known of it. */
export function option<T, const Rest extends Omit<Option<NoInfer<T>>, "type">>(
  type: ValueType<T>,
  rest: Rest,
): Rest & { readonly type: ValueType<T> } {
  return { ...rest, type };
}
