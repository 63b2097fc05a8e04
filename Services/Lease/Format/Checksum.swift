import CChecksum

/// sanlock's checksum: CRC-32C (Castagnoli, reflected) seeded with 0xFFFFFFFE and *without* the final inversion.
public enum Checksum {
    static let seed: UInt32 = 0xFFFF_FFFE

    public static func of(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.withUnsafeBytes { crc32c_update(seed, $0.baseAddress, $0.count) }
    }
}
