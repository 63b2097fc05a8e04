import Messages

/// Ids for requests whose caller chose none.
enum RandomID {
    private static let digits = Array("0123456789abcdef".utf8)

    /// A random uuid (version 4), lower case; without the file that Foundation reads for each.
    static func make() -> RequestID {
        var random = SystemRandomNumberGenerator()
        let high = random.next() & 0xFFFF_FFFF_FFFF_0FFF | 0x4000
        let low = random.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return String(unsafeUninitializedCapacity: 36) { text in
            var at = 0
            for (index, half) in [high, low].enumerated() {
                for nibble in 0..<16 {
                    let position = index * 16 + nibble
                    if position == 8 || position == 12 || position == 16 || position == 20 {
                        text[at] = UInt8(ascii: "-")
                        at += 1
                    }
                    text[at] = digits[Int(half >> UInt64(60 - 4 * nibble) & 15)]
                    at += 1
                }
            }
            return at
        }
    }
}
