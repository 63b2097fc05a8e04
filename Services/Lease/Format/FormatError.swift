/// Why a record cannot be believed: which field of it, where, and what is there instead of what should be.
public struct FormatError: Error, Hashable, Sendable {
    public enum Field: String, Hashable, Sendable {
        case length, magic, version, flags, checksum, time
        case sectorSize = "sector size"
        case geometry = "sector size with this alignment"
        case hosts = "number of hosts"
        case maximumHosts = "maximum number of hosts"
        case lockspace = "lockspace name"
        case resource = "resource name"
        case hostName = "host name"
        case owner
        case mode
        case offset
        case separator, capacity, generation
        case updating = "updating flag"
    }

    public let field: Field
    /// From the start of the record.
    public let offset: Int
    public let expected: String
    public let found: String

    public init(_ field: Field, at offset: Int, expected: String, found: String) {
        self.field = field
        self.offset = offset
        self.expected = expected
        self.found = found
    }

    /// For people: the caller adds which file and which record.
    public var sentence: String { "the \(field.rawValue) at byte \(offset) of the record is \(found), expected \(expected)" }

    /// For people, with the place in the file; `start` is where the record begins in it.
    public func sentence(file: String, start: UInt64) -> String {
        let (place, isBeyond) = start.addingReportingOverflow(UInt64(offset))
        return "\(file) at offset \(isBeyond ? start : place): \(sentence)"
    }

    /// The same for a record that begins `distance` bytes into the whole that the offset shall count from.
    func moved(by distance: Int) -> FormatError { FormatError(field, at: offset + distance, expected: expected, found: found) }

    static func hexadecimal(_ value: some FixedWidthInteger) -> String { "0x\(String(value, radix: 16))" }
}

/// One write to a volume.
public struct VolumeWrite: Hashable, Sendable {
    public let offset: UInt64
    public let bytes: [UInt8]

    public init(offset: UInt64, bytes: [UInt8]) {
        self.offset = offset
        self.bytes = bytes
    }
}
