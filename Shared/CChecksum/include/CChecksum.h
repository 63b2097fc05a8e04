#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, reflected) of `bytes` on top of `crc`, without inverting before or after: in the way this processor does it fastest.
uint32_t crc32c_update(uint32_t crc, const void *bytes, size_t length);

/// Whether this processor has an instruction for it (SSE 4.2, ARMv8 CRC32).
bool crc32c_has_instruction(void);

/// The ways that ``crc32c_update`` chooses from, each for tests. The first must only be called where there is such an instruction.
uint32_t crc32c_update_instruction(uint32_t crc, const void *bytes, size_t length);
uint32_t crc32c_update_sliced(uint32_t crc, const void *bytes, size_t length);
uint32_t crc32c_update_bytewise(uint32_t crc, const void *bytes, size_t length);
