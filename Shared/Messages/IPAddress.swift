/// IP addresses in writing.
public enum IPAddress {
    /// Whether this is one, as `inet_pton` reads them: `10.77.0.1`, `fd00::1`, `::ffff:10.77.0.1`.
    public static func isOne(_ text: String) -> Bool { isFour(text) || isSix(text) }

    private static func isFour(_ text: some StringProtocol) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { part in part.utf8.allSatisfy { (48...57).contains($0) } && UInt8(part) != nil && (part.count == 1 || part.first != "0") }
    }

    /// Eight groups; `::` stands for one of them or more, and the last two may be written as an address of the older kind.
    private static func isSix(_ text: String) -> Bool {
        var halves: [Substring] = [text[...]]
        if let gap = text.firstRange(of: "::") { halves = [text[..<gap.lowerBound], text[gap.upperBound...]] }
        var groups = 0
        for (index, half) in halves.enumerated() where !half.isEmpty {
            let parts = half.split(separator: ":", omittingEmptySubsequences: false)
            for (position, part) in parts.enumerated() {
                if index == halves.count - 1, position == parts.count - 1, isFour(part) {
                    groups += 2
                } else {
                    guard (1...4).contains(part.utf8.count), part.utf8.allSatisfy({ UInt8(ascii: "0") <= $0 && $0 <= UInt8(ascii: "9") || ($0 | 32) >= UInt8(ascii: "a") && ($0 | 32) <= UInt8(ascii: "f") }) else { return false }
                    groups += 1
                }
            }
        }
        return halves.count == 2 ? groups < 8 : groups == 8
    }
}
