import CChecksum
import LeaseFormat
import Testing

@Suite("CRC-32C, three ways")
struct FormatChecksumTests {
    /// As defined: bit by bit, the polynomial reflected.
    private static func defined(_ seed: UInt32, _ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.reduce(seed) { crc, byte in (0..<8).reduce(crc ^ UInt32(byte)) { crc, _ in crc >> 1 ^ (crc & 1 == 1 ? 0x82F6_3B78 : 0) } }
    }

    @Test func allWaysAgreeAtEveryLengthAndAlignment() {
        var random = SystemRandomNumberGenerator()
        let bytes = (0..<300).map { _ in UInt8.random(in: 0...255, using: &random) }
        for start in 0..<9 {
            for end in start...bytes.count {
                let part = bytes[start..<end]
                let expected = Self.defined(0xFFFF_FFFE, part)
                part.withUnsafeBytes {
                    #expect(crc32c_update_bytewise(0xFFFF_FFFE, $0.baseAddress, $0.count) == expected)
                    #expect(crc32c_update_sliced(0xFFFF_FFFE, $0.baseAddress, $0.count) == expected)
                    if crc32c_has_instruction() { #expect(crc32c_update_instruction(0xFFFF_FFFE, $0.baseAddress, $0.count) == expected) }
                }
                #expect(Checksum.of(part) == expected)
            }
        }
    }

    /// RFC 3720, B.4: inverted before and after, which sanlock does not do.
    @Test func theTestVectorOfISCSI() {
        let bytes = [UInt8](repeating: 0, count: 32)
        #expect(bytes.withUnsafeBytes { ~crc32c_update(.max, $0.baseAddress, $0.count) } == 0x8A91_36AA)
        #expect(Checksum.of([]) == 0xFFFF_FFFE)
    }
}
