// Host side of cryptolib and os.urandom. Bytes cross by address; nothing is kept between calls.
import crypto from 'node:crypto';

const MODES = { 1: 'ecb', 2: 'cbc' };

export function cryptoFunctions(view) {
  return {
    urandom(address, length) {
      crypto.randomFillSync(view().subarray(address, address + length));
    },
    // In CBC the 16 bytes at ivAddress are replaced by the last ciphertext block, so that calls chain.
    aes(encrypting, mode, keyAddress, keyLength, ivAddress, inAddress, length, outAddress) {
      const memory = view();
      const name = `aes-${keyLength * 8}-${MODES[mode]}`;
      const key = memory.subarray(keyAddress, keyAddress + keyLength);
      const iv = mode === 1 ? null : memory.subarray(ivAddress, ivAddress + 16);
      const cipher = encrypting ? crypto.createCipheriv(name, key, iv) : crypto.createDecipheriv(name, key, iv);
      const input = memory.slice(inAddress, inAddress + length); // a copy: output may overwrite it
      const output = cipher.setAutoPadding(false).update(input);
      memory.set(output, outAddress);
      if (iv && length) memory.set((encrypting ? output : input).subarray(length - 16), ivAddress);
    },
  };
}
