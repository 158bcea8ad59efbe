import { afterAll, beforeAll, describe } from "vitest";
import type { ObjectStore } from "../../src/store/store.ts";
import { conditions } from "./conformance/conditions.ts";
import { failing } from "./conformance/failing.ts";
import type { Expected } from "./conformance/given.ts";
import { listing } from "./conformance/listing.ts";
import { proving } from "./conformance/proving.ts";
import { reading } from "./conformance/reading.ts";

export interface Subject {
  store: ObjectStore;
  close?: () => Promise<void>;
}

/** Every promise of `src/store/store.ts`, one `it` each, over a real store. Leaves nothing in it. */
export function conformance(name: string, open: () => Promise<Subject>, expected: Expected): void {
  describe(name, () => {
    let subject: Subject;
    let store: ObjectStore;
    let folders = 0;
    /** A folder of its own for each test, so that none sees what another left. */
    const folder = () => {
      folders += 1;
      return `c${folders}`;
    };
    beforeAll(async () => {
      subject = await open();
      store = subject.store;
    });
    afterAll(async () => {
      await subject.close?.();
    });
    const given = () => store;
    reading(given, folder, expected.partBytes ?? 100_000);
    conditions(given, folder, expected);
    failing(given, folder, expected.partBytes ?? 100_000);
    listing(given, folder, expected);
    proving(given, folder, expected);
  });
}
