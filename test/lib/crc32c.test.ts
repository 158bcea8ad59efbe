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

  it("is that of one byte after the other, of any length", () => {
    const bytes = Buffer.from(Array.from({ length: 400_000 }, (_, index) => (index * 2654435761) >>> 11));
    const lengths = [0, 1, 15, 16, 17, 31, 16_383, 16_384, 16_385, 32_768, 131_071, 131_072, 131_073, 400_000];
    for (const length of lengths) {
      let crc = 0;
      for (let at = 0; at < length; at += 13) crc = crc32c(bytes.subarray(at, Math.min(at + 13, length)), crc);
      expect(crc32c(bytes.subarray(0, length))).toBe(crc);
    }
  });
});
