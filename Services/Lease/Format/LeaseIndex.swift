/// Why an index of leases cannot be used.
public enum IndexError: Error, Hashable, Codable, Sendable {
    case truncated
    case badHeader(String)
    /// An update of the whole index was begun and not finished: it must be rebuilt.
    case updating
    case badRecord(Int)
    case noSpace
}

/// oVirt's index of leases in an `xleases` volume: 253952 bytes at slot 1; record r names the lease at slot 3 + r.
public struct LeaseIndex: Hashable, Sendable {
    public static let length = 253_952
    public static let capacity = 3960
    static let magic: UInt32 = 0x1215_2016
    static let headerSize = 512
    static let recordSize = 64

    public let geometry: Geometry
    public let lockspace: String
    private var bytes: [UInt8]

    /// Where the index begins in its volume.
    public static func offset(_ geometry: Geometry) -> UInt64 { UInt64(geometry.alignment) }

    /// An empty index. Written whole while `updating`, then ``header`` alone with the flag cleared.
    public init(lockspace: String, time: UInt64, updating: Bool = false, geometry: Geometry = .standard) {
        self.geometry = geometry
        self.lockspace = lockspace
        bytes = [UInt8](repeating: 0, count: Self.headerSize)
        for shift in 0..<4 { bytes[shift] = UInt8(truncatingIfNeeded: Self.magic >> UInt32(24 - 8 * shift)) }
        bytes.put(name: "0001", at: 5)
        bytes.put(name: lockspace, at: 10)
        bytes.put(name: Self.decimal(time, digits: 10), at: 59)
        bytes[70] = updating ? UInt8(ascii: "u") : UInt8(ascii: "-")
        bytes[511] = UInt8(ascii: "\n")
        let empty = Self.record(name: "", offset: 0)
        bytes.reserveCapacity(Self.length)
        for _ in 0..<Self.capacity { bytes += empty }
        bytes += [UInt8](repeating: 0, count: Self.length - bytes.count)
    }

    /// Reads an index; refuses one whose update did not finish.
    public init(_ bytes: ArraySlice<UInt8>, geometry: Geometry = .standard) throws(IndexError) {
        guard bytes.count >= Self.length else { throw .truncated }
        let magic = bytes.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard magic == Self.magic else { throw .badHeader("wrong magic 0x\(String(magic, radix: 16))") }
        guard let version = bytes.name(at: 5, length: 4), UInt(version) == 1 else { throw .badHeader("unknown version") }
        guard let lockspace = bytes.name(at: 10) else { throw .badHeader("unreadable lockspace") }
        guard let time = bytes.name(at: 59, length: 10), UInt64(time) != nil else { throw .badHeader("unreadable time") }
        guard bytes[bytes.startIndex + 70] != UInt8(ascii: "u") else { throw .updating }
        self.geometry = geometry
        self.lockspace = lockspace
        self.bytes = Array(bytes.prefix(Self.length))
    }

    public var image: [UInt8] { bytes }
    /// The first block: the commit of a newly written index.
    public var header: [UInt8] { Array(bytes[..<geometry.sectorSize]) }

    /// Offset in the volume of the lease that record `index` names. The offset written in the record is for people only.
    public func leaseOffset(_ index: Int) -> UInt64 { UInt64((3 + index) * geometry.alignment) }

    /// The record of a lease; one that an old writer left half done counts as none.
    public func lookup(_ name: String) -> Int? {
        guard let found = position(of: name), !isUpdating(found) else { return nil }
        return found
    }

    /// Every finished lease with its record, in the order of the records. Unreadable records are left out.
    public var leases: [(name: String, index: Int)] {
        (0..<Self.capacity).compactMap { index in
            let record = self.record(index)
            guard record[record.startIndex] != 0, !isUpdating(index), let name = record.name(at: 0) else { return nil }
            return (name, index)
        }
    }

    /// Where a new lease goes: the slot of an unfinished record of that name, else the first free one.
    /// - Throws: ``IndexError/noSpace``.
    public func slot(for name: String) throws(IndexError) -> Int {
        if let unfinished = position(of: name) { return unfinished }
        guard let free = (0..<Self.capacity).first(where: { bytes[Self.headerSize + $0 * Self.recordSize] == 0 }) else { throw .noSpace }
        return free
    }

    /// Enters a lease and returns the one block to write, with its offset in the volume.
    public mutating func enter(_ name: String, at index: Int) -> (offset: UInt64, block: [UInt8]) {
        let start = Self.headerSize + index * Self.recordSize
        bytes.replaceSubrange(start..<(start + Self.recordSize), with: Self.record(name: name, offset: leaseOffset(index)))
        let block = start / geometry.sectorSize * geometry.sectorSize
        return (Self.offset(geometry) + UInt64(block), Array(bytes[block..<(block + geometry.sectorSize)]))
    }

    private func record(_ index: Int) -> ArraySlice<UInt8> {
        bytes[(Self.headerSize + index * Self.recordSize)...].prefix(Self.recordSize)
    }

    private func isUpdating(_ index: Int) -> Bool { bytes[Self.headerSize + index * Self.recordSize + 61] == UInt8(ascii: "u") }

    private func position(of name: String) -> Int? {
        var field = [UInt8](repeating: 0, count: Names.length)
        field.put(name: name, at: 0)
        return (0..<Self.capacity).first { record($0).prefix(Names.length).elementsEqual(field) }
    }

    private static func record(name: String, offset: UInt64) -> [UInt8] {
        var record = [UInt8](repeating: 0, count: recordSize)
        record.put(name: name, at: 0)
        record.put(name: decimal(offset, digits: 11), at: 49)
        record[61] = UInt8(ascii: "-")
        record[62] = UInt8(ascii: "-")
        record[63] = UInt8(ascii: "\n")
        return record
    }

    private static func decimal(_ value: UInt64, digits: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
}
