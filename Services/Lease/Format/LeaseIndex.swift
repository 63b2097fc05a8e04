/// Why an index of leases cannot be used.
public enum IndexError: Error, Hashable, Sendable {
    /// Offsets of the error count from the start of the index.
    case unreadable(FormatError)
    /// An update of the whole index was begun and not finished: it must be rebuilt.
    case updating
    /// Every record that the volume has room for is in use.
    case noSpace

    /// For people: the caller adds which file.
    public var sentence: String {
        switch self {
        case .unreadable(let error): error.sentence
        case .updating: "an update of the whole index did not finish: rebuild it"
        case .noSpace: "every record that the volume has room for is in use"
        }
    }

    /// For people, with the place in the file.
    public func sentence(file: String, geometry: Geometry) -> String {
        guard case .unreadable(let error) = self else { return "\(file) at offset \(LeaseIndex.offset(geometry)): \(sentence)" }
        return error.sentence(file: file, start: LeaseIndex.offset(geometry))
    }
}

/// oVirt's index of leases in an `xleases` volume: 253952 bytes at slot 1; record r names the lease at slot 3 + r.
///
/// A value: what changes it also returns the block to write. It is the same for every geometry but for where it and the leases are, and how large a block is.
public struct LeaseIndex: Hashable, Sendable {
    public static let length = 253_952
    public static let capacity = 3960
    static let magic: UInt32 = 0x1215_2016
    static let version = "0001"
    static let headerSize = 512
    /// Slots before the first lease: the lockspace's (unused), the index's, sanlock's own.
    static let reservedSlots = 3

    private enum Field {
        static let version = 5
        static let lockspace = 10
        static let time = 59
        static let updating = 70
        static let end = 511
    }

    public let geometry: Geometry
    public let lockspace: String
    private var bytes: [UInt8]

    /// Where the index begins in its volume.
    public static func offset(_ geometry: Geometry) -> UInt64 { UInt64(geometry.alignment) }

    /// How many leases a volume of this size has room for: a record beyond names nothing.
    public static func capacity(volumeSize: UInt64, geometry: Geometry) -> Int {
        min(capacity, max(0, Int(clamping: volumeSize / UInt64(geometry.alignment)) - reservedSlots))
    }

    /// An empty index, to be put on a volume by ``writes(time:)``.
    public init(lockspace: String, time: UInt64, updating: Bool = false, geometry: Geometry = .standard) {
        self.geometry = geometry
        self.lockspace = lockspace
        bytes = [UInt8](repeating: 0, count: Self.headerSize)
        for shift in 0..<4 { bytes[shift] = UInt8(truncatingIfNeeded: Self.magic >> UInt32(24 - 8 * shift)) }
        bytes.put(name: Self.version, at: Field.version)
        bytes.put(name: lockspace, at: Field.lockspace)
        bytes[Field.end] = UInt8(ascii: "\n")
        let empty = IndexRecord.bytes(name: "", offset: 0)
        bytes.reserveCapacity(Self.length)
        for _ in 0..<Self.capacity { bytes += empty }
        bytes += [UInt8](repeating: 0, count: Self.length - bytes.count)
        mark(updating: updating, time: time)
    }

    /// Reads an index; refuses one whose update did not finish and, if a lockspace is given, that of another one.
    public init(_ bytes: ArraySlice<UInt8>, lockspace: String? = nil, geometry: Geometry = .standard) throws(IndexError) {
        try self.init(rebuilding: bytes, lockspace: lockspace, geometry: geometry)
        guard !isUpdating else { throw .updating }
        let digits = bytes.dropFirst(Field.time).prefix(10)
        guard digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
            throw .unreadable(FormatError(.time, at: Field.time, expected: "10 decimal digits", found: Self.quoted(digits)))
        }
    }

    /// Reads an index that shall be rebuilt: also one whose update did not finish, or whose time is no number. Magic, version and lockspace must be right even then.
    public init(rebuilding bytes: ArraySlice<UInt8>, lockspace: String? = nil, geometry: Geometry = .standard) throws(IndexError) {
        guard bytes.count >= Self.length else {
            throw .unreadable(FormatError(.length, at: 0, expected: "\(Self.length) bytes", found: "\(bytes.count) bytes"))
        }
        let magic = UInt32(bigEndian: bytes.integer(at: 0))
        guard magic == Self.magic else {
            throw .unreadable(FormatError(.magic, at: 0, expected: FormatError.hexadecimal(Self.magic), found: FormatError.hexadecimal(magic)))
        }
        let version = bytes.dropFirst(Field.version).prefix(4)
        guard version.elementsEqual(Self.version.utf8) else {
            throw .unreadable(FormatError(.version, at: Field.version, expected: "\"\(Self.version)\"", found: Self.quoted(version)))
        }
        let field = bytes.dropFirst(Field.lockspace).prefix(Names.length)
        let name = field.prefix { $0 != 0 }
        let isName = !name.isEmpty && name.allSatisfy { (0x20..<0x7F).contains($0) } && field.dropFirst(name.count).allSatisfy { $0 == 0 }
        guard isName, let found = String(validating: name, as: UTF8.self), lockspace == nil || found == lockspace else {
            let expected = lockspace?.debugDescription ?? "a name"
            throw .unreadable(FormatError(.lockspace, at: Field.lockspace, expected: expected, found: Self.quoted(isName ? name : field)))
        }
        self.geometry = geometry
        self.lockspace = found
        self.bytes = Array(bytes.prefix(Self.length))
    }

    private static func quoted(_ bytes: ArraySlice<UInt8>) -> String { String(decoding: bytes, as: UTF8.self).debugDescription }

    // MARK: The whole

    public var image: [UInt8] { bytes }
    /// The first block: the commit of a newly written index.
    public var header: [UInt8] { Array(bytes[..<geometry.sectorSize]) }
    /// Anything but "-" says that an update did not finish: a flag that is damaged must not make half an index whole.
    public var isUpdating: Bool { bytes[Field.updating] != UInt8(ascii: "-") }
    /// When the whole was last written, in seconds since 1970; `nil` if unreadable.
    public var time: UInt64? { bytes[...].name(at: Field.time, length: 10).flatMap { UInt64($0) } }

    private mutating func mark(updating: Bool, time: UInt64) {
        bytes.put(name: IndexRecord.decimal(time, digits: 10), at: Field.time, length: 10)
        bytes[Field.updating] = updating ? UInt8(ascii: "u") : UInt8(ascii: "-")
    }

    /// Puts this index in place of whatever the volume has: whole and marked as updating, then the first block as the commit. In between nobody uses it.
    public func writes(time: UInt64) -> [VolumeWrite] {
        var marked = self
        marked.mark(updating: true, time: time)
        let whole = VolumeWrite(offset: Self.offset(geometry), bytes: marked.bytes)
        marked.mark(updating: false, time: time)
        return [whole, VolumeWrite(offset: Self.offset(geometry), bytes: marked.header)]
    }

    // MARK: One record

    /// What has to be read to see whether record `index` still names a lease: header and record, in pages, in one piece if they are near each other.
    public static func confirmation(of index: Int, geometry: Geometry) -> [(offset: UInt64, length: Int)] {
        let page = 4096, first = start(index) / page * page
        if first <= 3 * page { return [(offset(geometry), first + page)] }
        return [(offset(geometry), page), (offset(geometry) + UInt64(first), page)]
    }

    /// Whether the index is whole, of this lockspace, and names this lease in record `index`, by what ``confirmation(of:geometry:)`` asked to be read.
    public static func confirms(_ reads: [[UInt8]], lease name: String, at index: Int, of lockspace: String, geometry: Geometry) -> Bool {
        guard let header = reads.first?[...], let last = reads.last, header.count >= headerSize, UInt32(bigEndian: header.integer(at: 0)) == magic,
            header.dropFirst(Field.version).prefix(4).elementsEqual(version.utf8), header.matches(Names.field(lockspace), at: Field.lockspace),
            header[Field.updating] == UInt8(ascii: "-")
        else { return false }
        let place = reads.count == 1 ? start(index) : start(index) % 4096
        guard place + IndexRecord.size <= last.count else { return false }
        return IndexRecord(last[place..<(place + IndexRecord.size)]) == .lease(name)
    }

    // MARK: Records

    /// Offset in the volume of the lease that record `index` names. The offset written in the record is for people only.
    public static func leaseOffset(_ index: Int, geometry: Geometry) -> UInt64 { UInt64((reservedSlots + index) * geometry.alignment) }
    public func leaseOffset(_ index: Int) -> UInt64 { Self.leaseOffset(index, geometry: geometry) }

    /// What record `index`, below ``capacity``, says.
    public func record(_ index: Int) -> IndexRecord {
        let start = Self.start(index)
        let record = IndexRecord(bytes[start..<(start + IndexRecord.size)])
        guard case .unreadable(let error) = record else { return record }
        return .unreadable(error.moved(by: start))
    }

    /// The record of a lease; one that an old writer left half done, or that is not readable, counts as none.
    public func lookup(_ name: String) -> Int? {
        guard let found = position(of: name), case .lease = record(found) else { return nil }
        return found
    }

    /// Every finished lease with its record, in the order of the records. Unreadable records are left out: see ``damage``.
    public var leases: [(name: String, index: Int)] {
        (0..<Self.capacity).compactMap { index in
            guard bytes[Self.start(index)] != 0, case .lease(let name) = record(index) else { return nil }
            return (name, index)
        }
    }

    /// The records that cannot be read, and why: a rebuild repairs them.
    public var damage: [(index: Int, error: FormatError)] {
        (0..<Self.capacity).compactMap { index in
            guard case .unreadable(let error) = record(index) else { return nil }
            return (index, error)
        }
    }

    /// Where a new lease goes: the slot of an unfinished record of that name, else the first free one that the volume has room for.
    /// - Throws: ``IndexError/noSpace``; ``IndexError/unreadable(_:)`` if a record that seems to be of this name is damaged: a second one could let the lease be held twice.
    public func slot(for name: String, volumeSize: UInt64? = nil) throws(IndexError) -> Int {
        let room = volumeSize.map { Self.capacity(volumeSize: $0, geometry: geometry) } ?? Self.capacity
        if let found = position(of: name), found < room {
            if case .unreadable(let error) = record(found) { throw .unreadable(error) }
            return found
        }
        guard let free = (0..<room).first(where: { bytes[Self.start($0)] == 0 && record($0) == .free }) else { throw .noSpace }
        return free
    }

    /// Enters a lease and returns the one block to write, with its offset in the volume. Written after the lease's own area.
    public mutating func enter(_ name: String, at index: Int) -> (offset: UInt64, block: [UInt8]) {
        put(IndexRecord.bytes(name: name, offset: leaseOffset(index)), at: index)
    }

    /// Makes a record free and returns the one block to write, with its offset in the volume. Written before the lease's own area is (``Images/blank(geometry:)``).
    public mutating func remove(at index: Int) -> (offset: UInt64, block: [UInt8]) {
        put(IndexRecord.bytes(name: "", offset: 0), at: index)
    }

    private static func start(_ index: Int) -> Int { headerSize + index * IndexRecord.size }

    private mutating func put(_ record: [UInt8], at index: Int) -> (offset: UInt64, block: [UInt8]) {
        let start = Self.start(index)
        bytes.replaceSubrange(start..<(start + IndexRecord.size), with: record)
        let block = start / geometry.sectorSize * geometry.sectorSize
        return (Self.offset(geometry) + UInt64(block), Array(bytes[block..<(block + geometry.sectorSize)]))
    }

    /// The first record whose name field holds exactly this name.
    private func position(of name: String) -> Int? {
        guard Names.isStorable(name) else { return nil }
        let field = Names.field(name), all = bytes[...]
        return (0..<Self.capacity).first { all.matches(field, at: Self.start($0)) }
    }
}
