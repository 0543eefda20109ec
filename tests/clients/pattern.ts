/** Bytes that can be recognised at the other end; `sdk.py` and `sdk.mjs` know the same functions. */

/** `length` bytes of a linear congruential sequence that begins with the topic's fingerprint. */
export function pattern(length: number, topic: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = fingerprint(new TextEncoder().encode(topic));
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** `length` letters of the same sequence, one of 27 of two bytes in UTF-8. */
export function words(length: number, topic: string): string {
  return [...pattern(length, topic)].map((byte) => 'abcdefghijklmnopqrstuvwxyzé'[byte % 27]).join('');
}

/** 32-bit FNV-1a. */
export function fingerprint(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
