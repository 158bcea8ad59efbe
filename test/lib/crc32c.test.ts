import { describe, expect, it } from "vitest";
import { crc32c, crc32cHex } from "../../src/lib/crc32c.ts";

describe("CRC-32C", () => {
  it("is that of the published check value, and of RFC 3720's examples", () => {
    expect(crc32c(Buffer.from("123456789")) >>> 0).toBe(0xe3069283);
    expect(crc32c(Buffer.alloc(32)) >>> 0).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff)) >>> 0).toBe(0x62a8ab43);
    expect(crc32cHex(crc32c(Buffer.from(Array.from({ length: 32 }, (_, index) => index))))).toBe("4e79dd46");
  });

  it("does not depend on where the bytes lie in memory, and in which pieces they come", () => {
    const bytes = Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 7919) >> 3));
    const whole = crc32c(bytes);
    for (let shift = 0; shift < 8; shift++) {
      const moved = Buffer.concat([Buffer.alloc(64 + shift), bytes]).subarray(64 + shift);
      expect(crc32c(moved)).toBe(whole);
      const cut = 1000 + shift;
      expect(crc32c(moved.subarray(cut), crc32c(moved.subarray(0, cut)))).toBe(whole);
    }
  });
});
