/// What one of the records of a ``LeaseIndex`` says.
public enum IndexRecord: Hashable, Sendable {
    case free
    case lease(String)
    /// A writer of old began to enter or to remove this lease and did not finish: it counts as no lease.
    case unfinished(String)
    /// Offsets of the error count from the start of the index.
    case unreadable(FormatError)

    static let size = 64
    static let updatingOffset = 61
    private static let name = 0..<48
    private static let separators = [48, 60]
    private static let stated = 49..<60
    private static let reservedOffset = 62
    private static let endOffset = 63

    private static let empty = bytes(name: "", offset: 0)

    /// The lease that it names, finished or not.
    public var name: String? {
        switch self {
        case .lease(let name), .unfinished(let name): name
        case .free, .unreadable: nil
        }
    }

    /// Reads the 64 bytes of a record. The offset that it states is for people only, and so is not compared with anything; the reserved byte may be anything.
    public init(_ bytes: ArraySlice<UInt8>) {
        do {
            self = try Self.read(bytes)
        } catch {
            self = .unreadable(error)
        }
    }

    private static func read(_ bytes: ArraySlice<UInt8>) throws(FormatError) -> IndexRecord {
        guard bytes.count >= size else { throw FormatError(.length, at: 0, expected: "\(size) bytes", found: "\(bytes.count) bytes") }
        // Most are free.
        if bytes.matches(empty, at: 0) { return .free }
        let first = bytes.startIndex
        func require(_ offset: Int, _ field: FormatError.Field, _ expected: UInt8...) throws(FormatError) {
            let found = bytes[first + offset]
            guard expected.contains(found) else {
                throw FormatError(field, at: offset, expected: expected.map(FormatError.hexadecimal).joined(separator: " or "), found: FormatError.hexadecimal(found))
            }
        }
        let text = bytes[(first + name.lowerBound)..<(first + name.upperBound)].prefix { $0 != 0 }
        for offset in name {
            let byte = bytes[first + offset]
            guard offset < text.count ? (0x20..<0x7F).contains(byte) : byte == 0 else {
                throw FormatError(.resource, at: offset, expected: offset < text.count ? "a printable character" : "0x0 after the end", found: FormatError.hexadecimal(byte))
            }
        }
        for offset in separators { try require(offset, .separator, 0) }
        for offset in stated {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[first + offset]) else {
                throw FormatError(.offset, at: offset, expected: "a decimal digit", found: FormatError.hexadecimal(bytes[first + offset]))
            }
        }
        try require(updatingOffset, .updating, UInt8(ascii: "-"), UInt8(ascii: "u"))
        try require(endOffset, .separator, UInt8(ascii: "\n"))
        guard !text.isEmpty else { return .free }
        let lease = String(decoding: text, as: UTF8.self)
        return bytes[first + updatingOffset] == UInt8(ascii: "u") ? .unfinished(lease) : .lease(lease)
    }

    /// The bytes of a record; of a free one if the name is empty.
    static func bytes(name: String, offset: UInt64) -> [UInt8] {
        var record = [UInt8](repeating: 0, count: size)
        record.put(name: name, at: 0)
        record.put(name: decimal(offset, digits: stated.count), at: stated.lowerBound)
        record[updatingOffset] = UInt8(ascii: "-")
        record[reservedOffset] = UInt8(ascii: "-")
        record[endOffset] = UInt8(ascii: "\n")
        return record
    }

    static func decimal(_ value: UInt64, digits: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
}
