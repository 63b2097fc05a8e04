#include "CChecksum.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define WITH_INSTRUCTION __attribute__((target("sse4.2")))
#define STEP_8 (uint32_t) _mm_crc32_u64
#define STEP_1 _mm_crc32_u8
#elif defined(__aarch64__)
#include <sys/auxv.h>
#define WITH_INSTRUCTION __attribute__((target("crc")))
#define STEP_8 __builtin_arm_crc32cd
#define STEP_1 __builtin_arm_crc32cb
#define CAPABILITY_CRC32 (1ul << 7)
#endif

bool crc32c_has_instruction(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2");
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & CAPABILITY_CRC32) != 0;
#else
  return false;
#endif
}

#if defined(WITH_INSTRUCTION)
WITH_INSTRUCTION uint32_t crc32c_update_instruction(uint32_t crc, const void *bytes, size_t length) {
  const uint8_t *next = bytes;
  for (; length >= 8; next += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, next, 8);
    crc = STEP_8(crc, word);
  }
  for (; length > 0; next++, length--) crc = STEP_1(crc, *next);
  return crc;
}
#else
uint32_t crc32c_update_instruction(uint32_t crc, const void *bytes, size_t length) { return crc32c_update_sliced(crc, bytes, length); }
#endif

// tables[0][b] is the remainder of byte b, tables[n][b] that of byte b and n zero bytes after it.
static uint32_t tables[8][256];

// Before main, so that no thread can meet a table half made.
__attribute__((constructor)) static void make_tables(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82F63B78u & -(crc & 1u));
    tables[0][byte] = crc;
  }
  for (int table = 1; table < 8; table++)
    for (int byte = 0; byte < 256; byte++) {
      uint32_t shorter = tables[table - 1][byte];
      tables[table][byte] = tables[0][shorter & 0xFF] ^ (shorter >> 8);
    }
}

uint32_t crc32c_update_bytewise(uint32_t crc, const void *bytes, size_t length) {
  const uint8_t *next = bytes;
  for (; length > 0; next++, length--) crc = tables[0][(crc ^ *next) & 0xFF] ^ (crc >> 8);
  return crc;
}

uint32_t crc32c_update_sliced(uint32_t crc, const void *bytes, size_t length) {
  const uint8_t *next = bytes;
  for (; length >= 8; next += 8, length -= 8) {
    uint32_t first = crc ^ (next[0] | (uint32_t)next[1] << 8 | (uint32_t)next[2] << 16 | (uint32_t)next[3] << 24);
    crc = tables[7][first & 0xFF] ^ tables[6][first >> 8 & 0xFF] ^ tables[5][first >> 16 & 0xFF] ^ tables[4][first >> 24] ^ tables[3][next[4]] ^
          tables[2][next[5]] ^ tables[1][next[6]] ^ tables[0][next[7]];
  }
  return crc32c_update_bytewise(crc, next, length);
}

uint32_t crc32c_update(uint32_t crc, const void *bytes, size_t length) {
  return crc32c_has_instruction() ? crc32c_update_instruction(crc, bytes, length) : crc32c_update_sliced(crc, bytes, length);
}
