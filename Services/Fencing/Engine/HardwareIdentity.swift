/// One machine's identity as its fence device and its own firmware write it: the same 16 bytes in up to three orders.
enum HardwareIdentity {
    /// - Parameters:
    ///   - guid: the bytes as the device sends them, hexadecimal.
    ///   - hardwareID: what the host reads in-band, with or without dashes.
    static func same(_ guid: String, _ hardwareID: String) -> Bool {
        let read = digits(guid), known = digits(hardwareID)
        return !read.isEmpty && [read, smbios(read), reversed(read)].contains(known)
    }

    private static func digits(_ text: String) -> [Character] { text.lowercased().filter { $0 != "-" && $0 != " " }.map { $0 } }

    private static func bytes(_ digits: [Character]) -> [[Character]] { stride(from: 0, to: digits.count - 1, by: 2).map { [digits[$0], digits[$0 + 1]] } }

    /// SMBIOS: the first three fields little-endian.
    private static func smbios(_ digits: [Character]) -> [Character] {
        let b = bytes(digits)
        guard b.count == 16 else { return digits }
        return (b[0..<4].reversed() + b[4..<6].reversed() + b[6..<8].reversed() + b[8...]).flatMap { $0 }
    }

    /// IPMI: least significant byte first.
    private static func reversed(_ digits: [Character]) -> [Character] { bytes(digits).reversed().flatMap { $0 } }
}
