/// sanlock's own index of resources (*rindex*): two areas, this index and an internal lease, then the leases themselves; entry n names the lease in area 2 + n.
///
/// A value: what changes it also returns what to write, in order. Whoever writes holds the internal lease exclusively.
public struct ResourceIndex: Hashable, Sendable {
    /// The resource whose lease guards the index.
    public static let internalLease = "rindex_lease"
    public static let standardCapacity = 4096
    static let magic: UInt32 = 0x0104_2018
    static let version: UInt32 = 0x0001_0002
    static let headerSize = 80

    private enum Field {
        static let version = 4
        static let flags = 8
        static let sectorSize = 12
        static let capacity = 16
        static let offset = 24
        static let lockspace = 32
    }

    /// What one entry says.
    public enum Entry: Hashable, Sendable {
        case free
        case lease(String)
        /// Offsets of the error count from the start of the index.
        case unreadable(FormatError)

        static let size = 64
        static let flags = 8
        static let name = 16
    }

    public enum Failure: Error, Hashable, Sendable {
        case noSpace
        case exists(entry: Int)
        case notFound
        /// An entry that seems to be of this name, or the one that is meant, is damaged.
        case unreadable(FormatError)
    }

    public let geometry: Geometry
    public let lockspace: String
    /// Where the index begins in its volume.
    public let offset: UInt64
    /// Number of entries.
    public let capacity: Int
    /// Header and entries, in whole sectors.
    private var bytes: [UInt8]

    /// sanlock's limit, so that the entries fit into one area.
    public static func maximumCapacity(_ geometry: Geometry) -> Int { 16_000 * (geometry.alignment / Geometry.mebibyte) }

    private static func length(_ capacity: Int, _ geometry: Geometry) -> Int {
        let sector = geometry.sectorSize
        return sector + (capacity * Entry.size + sector - 1) / sector * sector
    }

    /// An empty index, to be put on a volume by ``formatWrites``. Refused if it is not aligned, or has no entries or more than sanlock allows.
    public init?(lockspace: String, offset: UInt64, capacity: Int = standardCapacity, geometry: Geometry = .standard) {
        guard Self.isPossible(lockspace, offset, capacity, geometry) else { return nil }
        self.geometry = geometry
        self.lockspace = lockspace
        self.offset = offset
        self.capacity = capacity
        bytes = [UInt8](repeating: 0, count: Self.length(capacity, geometry))
        bytes.put(Self.magic, at: 0)
        bytes.put(Self.version, at: Field.version)
        bytes.put(geometry.flag >> 4, at: Field.flags)
        bytes.put(UInt32(geometry.sectorSize), at: Field.sectorSize)
        bytes.put(UInt32(capacity), at: Field.capacity)
        bytes.put(offset, at: Field.offset)
        bytes.put(name: lockspace, at: Field.lockspace)
    }

    private static func isPossible(_ lockspace: String, _ offset: UInt64, _ capacity: Int, _ geometry: Geometry) -> Bool {
        Names.isStorable(lockspace) && offset % UInt64(geometry.alignment) == 0 && (1...maximumCapacity(geometry)).contains(capacity)
            && offset <= UInt64(Int64.max) - UInt64(geometry.alignment) * UInt64(capacity + 2)
    }

    /// How much to read at `offset` for ``init(_:offset:lockspace:)``, by the header in the first bytes.
    public static func length(header: ArraySlice<UInt8>, offset: UInt64) throws(FormatError) -> Int {
        let header = try Header(header, offset: offset, lockspace: nil)
        return length(header.capacity, header.geometry)
    }

    /// Reads an index; refuses that of another lockspace, or one that says it is somewhere else.
    public init(_ bytes: ArraySlice<UInt8>, offset: UInt64, lockspace: String? = nil) throws(FormatError) {
        let header = try Header(bytes, offset: offset, lockspace: lockspace)
        let length = Self.length(header.capacity, header.geometry)
        guard bytes.count >= length else { throw FormatError(.length, at: 0, expected: "\(length) bytes", found: "\(bytes.count) bytes") }
        geometry = header.geometry
        self.lockspace = header.lockspace
        self.offset = offset
        capacity = header.capacity
        self.bytes = Array(bytes.prefix(length))
    }

    private struct Header {
        let geometry: Geometry
        let lockspace: String
        let capacity: Int

        init(_ bytes: ArraySlice<UInt8>, offset: UInt64, lockspace: String?) throws(FormatError) {
            guard bytes.count >= headerSize else { throw FormatError(.length, at: 0, expected: "\(headerSize) bytes", found: "\(bytes.count) bytes") }
            let magic: UInt32 = bytes.integer(at: 0)
            guard magic == ResourceIndex.magic else {
                throw FormatError(.magic, at: 0, expected: FormatError.hexadecimal(ResourceIndex.magic), found: FormatError.hexadecimal(magic))
            }
            let version: UInt32 = bytes.integer(at: Field.version)
            guard version >> 16 == ResourceIndex.version >> 16 else {
                throw FormatError(.version, at: Field.version, expected: "major version \(ResourceIndex.version >> 16)", found: FormatError.hexadecimal(version))
            }
            let flags: UInt32 = bytes.integer(at: Field.flags)
            let sectorSize: UInt32 = bytes.integer(at: Field.sectorSize)
            guard [1, 2, 4, 8].contains(flags), let geometry = Geometry(sectorSize: Int(sectorSize), alignment: Int(flags) * Geometry.mebibyte) else {
                throw FormatError(
                    .geometry, at: Field.flags, expected: "512 with 1 MiB, or 4096 with 1, 2, 4 or 8 MiB", found: "\(sectorSize) with flags \(FormatError.hexadecimal(flags))")
            }
            let stated: UInt64 = bytes.integer(at: Field.offset)
            guard stated == offset else { throw FormatError(.offset, at: Field.offset, expected: "\(offset)", found: "\(stated)") }
            let name = bytes.name(at: Field.lockspace)
            guard let name, lockspace == nil || name == lockspace else {
                throw FormatError(.lockspace, at: Field.lockspace, expected: lockspace?.debugDescription ?? "UTF-8", found: name?.debugDescription ?? "other bytes")
            }
            let capacity = Int(bytes.integer(at: Field.capacity, as: UInt32.self))
            guard isPossible(name, offset, capacity, geometry) else {
                throw FormatError(
                    .capacity, at: Field.capacity, expected: "1 to \(maximumCapacity(geometry)) at an aligned offset, and a lockspace",
                    found: "\(capacity) of \(name.debugDescription) at \(offset)")
            }
            (self.geometry, self.lockspace, self.capacity) = (geometry, name, capacity)
        }
    }

    // MARK: Places

    public var internalLeaseOffset: UInt64 { offset + UInt64(geometry.alignment) }
    /// Offset in the volume of the lease that entry `entry` names.
    public func leaseOffset(_ entry: Int) -> UInt64 { offset + UInt64(2 + entry) * UInt64(geometry.alignment) }

    /// The entry of a lease's area; `nil` if there is none at this offset.
    public func entry(leaseAt place: UInt64) -> Int? {
        let first = leaseOffset(0), area = UInt64(geometry.alignment)
        guard place >= first, (place - first) % area == 0, (place - first) / area < UInt64(capacity) else { return nil }
        return Int((place - first) / area)
    }

    // MARK: Entries

    /// What entry `entry`, below ``capacity``, says.
    public func entry(_ entry: Int) -> Entry {
        let start = self.start(entry)
        let record = bytes[start..<(start + Entry.size)]
        if record.isZero { return .free }
        let place: UInt64 = record.integer(at: 0)
        let field = record.dropFirst(Entry.name).prefix(Names.length)
        let text = field.prefix { $0 != 0 }
        guard field.dropFirst(text.count).allSatisfy({ $0 == 0 }), let name = String(validating: text, as: UTF8.self) else {
            return .unreadable(FormatError(.resource, at: start + Entry.name, expected: "UTF-8 and zeros after its end", found: "other bytes"))
        }
        let expected = name.isEmpty ? 0 : leaseOffset(entry)
        guard place == expected else { return .unreadable(FormatError(.offset, at: start, expected: "\(expected)", found: "\(place)")) }
        return name.isEmpty ? .free : .lease(name)
    }

    /// The first readable entry of a lease.
    public func lookup(_ name: String) -> Int? {
        guard let found = position(of: name), case .lease = entry(found) else { return nil }
        return found
    }

    public var leases: [(name: String, entry: Int)] {
        (0..<capacity).compactMap { entry in if case .lease(let name) = self.entry(entry) { (name, entry) } else { nil } }
    }

    /// The entries that cannot be read, and why: a rebuild repairs them.
    public var damage: [(entry: Int, error: FormatError)] {
        (0..<capacity).compactMap { entry in if case .unreadable(let error) = self.entry(entry) { (entry, error) } else { nil } }
    }

    private func start(_ entry: Int) -> Int { geometry.sectorSize + entry * Entry.size }

    private func position(of name: String) -> Int? {
        guard Names.isStorable(name) else { return nil }
        let field = Names.field(name), all = bytes[...]
        return (0..<capacity).first { all.matches(field, at: start($0) + Entry.name) }
    }

    /// Sets the name of an entry and returns its sector.
    private mutating func put(_ name: String, at entry: Int) -> VolumeWrite {
        let start = self.start(entry)
        bytes.replaceSubrange(start..<(start + Entry.size), with: repeatElement(0, count: Entry.size))
        bytes.put(name.isEmpty ? 0 : leaseOffset(entry), at: start)
        bytes.put(name: name, at: start + Entry.name)
        let sector = start / geometry.sectorSize * geometry.sectorSize
        return VolumeWrite(offset: offset + UInt64(sector), bytes: Array(bytes[sector..<(sector + geometry.sectorSize)]))
    }
}

// MARK: What sanlock's commands write

extension ResourceIndex {
    /// The whole area of the index.
    public var image: [UInt8] { bytes + [UInt8](repeating: 0, count: geometry.alignment - bytes.count) }

    /// `format`: the internal lease, then the index, without which nobody uses the lease.
    public var formatWrites: [VolumeWrite] {
        [
            VolumeWrite(offset: internalLeaseOffset, bytes: Images.resource(Self.internalLease, lockspace: lockspace, geometry: geometry)),
            VolumeWrite(offset: offset, bytes: image),
        ]
    }

    /// `create`: the lease's area, then its entry: the first free one that the volume has room for.
    public mutating func create(_ name: String, hosts: UInt64? = nil, volumeSize: UInt64? = nil) throws(Failure) -> (entry: Int, writes: [VolumeWrite]) {
        if let found = position(of: name) {
            if case .unreadable(let error) = entry(found) { throw .unreadable(error) }
            throw .exists(entry: found)
        }
        guard let free = (0..<capacity).first(where: { entry($0) == .free }), volumeSize.map({ leaseOffset(free) + UInt64(geometry.alignment) <= $0 }) ?? true else {
            throw .noSpace
        }
        let area = VolumeWrite(offset: leaseOffset(free), bytes: Images.resource(name, lockspace: lockspace, hosts: hosts, geometry: geometry))
        return (free, [area, put(name, at: free)])
    }

    /// `delete`: the entry, then a leader that says the lease is removed. The caller has made sure that nobody holds it.
    /// - Parameter time: of this machine's clock, as in a leader.
    public mutating func delete(_ name: String, time: UInt64) throws(Failure) -> (entry: Int, writes: [VolumeWrite]) {
        guard let found = position(of: name) else { throw .notFound }
        if case .unreadable(let error) = entry(found) { throw .unreadable(error) }
        let cleared = Images.cleared(name, lockspace: lockspace, time: time, geometry: geometry)
        return (found, [put("", at: found), VolumeWrite(offset: leaseOffset(found), bytes: cleared)])
    }

    /// `update`: only an entry, which then names a lease or, with an empty name, is free.
    public mutating func update(_ entry: Int, name: String) -> VolumeWrite { put(name, at: entry) }

    /// `rebuild`: every entry is what its lease's area says; the whole index is written anew.
    /// - Parameter found: what area `n` (at ``leaseOffset(_:)``) holds; `nil` beyond the volume's end.
    /// - Returns: What to write, and the areas that hold something which cannot be told, or a lease of another lockspace: their entries stay as they are.
    public mutating func rebuild(found: (Int) -> IndexRebuild.Found?) -> (writes: [VolumeWrite], doubtful: [Int]) {
        var doubtful: [Int] = []
        for entry in 0..<capacity {
            switch found(entry) {
            case nil, .nothing?: _ = put("", at: entry)
            case .lease(let leader)? where leader.lockspace == lockspace && leader.geometry == geometry: _ = put(leader.name, at: entry)
            case .lease?, .unreadable?: doubtful.append(entry)
            }
        }
        return ([VolumeWrite(offset: offset, bytes: image)], doubtful)
    }
}
