/// The 200-byte record at the start of a host's sector in a lockspace (*delta*) and of a resource's lease area (*paxos*).
///
/// Bytes 0..<168 are covered by the checksum; ``ioTimeout`` and the `write…` fields are not.
public struct LeaderRecord: Hashable, Codable, Sendable {
    public enum Kind: UInt32, Hashable, Codable, Sendable {
        case delta = 0x1221_2010
        case paxos = 0x0615_2010
        /// A removed resource.
        case cleared = 0x1128_2016

        var version: UInt32 { self == .delta ? 0x0003_0004 : 0x0006_0004 }
    }

    public enum Flags {
        /// The owner is about to turn its exclusive hold into a shared one.
        public static let shortHold: UInt32 = 0x1
        static let alignments: UInt32 = 0xF0
    }

    public static let size = 200
    static let checked = 168
    private static let timeOffset = 152

    public var kind: Kind
    /// As read: what is rewritten stays what it was, for a newer writer.
    var minorVersion: UInt16 = 4
    public var geometry: Geometry
    public var isShortHold = false
    /// Paxos: hosts that take part in ballots. Delta: 0.
    public var hosts: UInt64
    /// Paxos: the geometry's maximum. Delta: 1.
    public var maximumHosts: UInt64
    /// 0: never acquired.
    public var ownerID: UInt64 = 0
    public var ownerGeneration: UInt64 = 0
    /// Paxos: rises by one with each change of ownership.
    public var lver: UInt64 = 0
    public var lockspace: String
    /// Paxos: the resource. Delta: the owner's host name.
    public var name: String
    /// Whole seconds of the writer's own clock; 0 means free.
    public var timestamp: UInt64 = 0
    /// Zero in the versions that are known.
    var unused: UInt64 = 0
    /// Delta: seconds, by which others compute this owner's death.
    public var ioTimeout: UInt16
    /// Paxos: the host that wrote this record, which need not be the owner. Delta: target, event and data of a host event.
    public var writeID: UInt64 = 0
    public var writeGeneration: UInt64 = 0
    public var writeTimestamp: UInt64 = 0

    /// A free host id of a lockspace.
    public init(lockspace: String, ioTimeout: UInt16, geometry: Geometry = .standard) {
        kind = .delta
        self.geometry = geometry
        hosts = 0
        maximumHosts = 1
        self.lockspace = lockspace
        name = ""
        self.ioTimeout = ioTimeout
    }

    /// A free resource.
    public init(lockspace: String, resource: String, hosts: UInt64? = nil, geometry: Geometry = .standard) {
        kind = .paxos
        self.geometry = geometry
        self.hosts = hosts ?? UInt64(geometry.maximumHosts)
        maximumHosts = UInt64(geometry.maximumHosts)
        self.lockspace = lockspace
        name = resource
        ioTimeout = 0
    }

    public var isFree: Bool { timestamp == 0 }

    /// Reads and verifies a record: magic, major version, flags, sizes, checksum. Unknown minor versions are accepted.
    public init(_ sector: ArraySlice<UInt8>) throws(FormatError) {
        guard sector.count >= Self.size else {
            throw FormatError(.length, at: 0, expected: "\(Self.size) bytes", found: "\(sector.count) bytes")
        }
        let magic: UInt32 = sector.integer(at: 0)
        guard let kind = Kind(rawValue: magic) else {
            throw FormatError(.magic, at: 0, expected: "that of a leader record", found: FormatError.hexadecimal(magic))
        }
        let version: UInt32 = sector.integer(at: 4)
        guard version >> 16 == kind.version >> 16 else {
            throw FormatError(.version, at: 4, expected: "major version \(kind.version >> 16)", found: FormatError.hexadecimal(version))
        }
        let stored: UInt32 = sector.integer(at: Self.checked)
        let computed = Checksum.of(sector.prefix(Self.checked))
        guard stored == computed else {
            throw FormatError(.checksum, at: Self.checked, expected: FormatError.hexadecimal(computed), found: FormatError.hexadecimal(stored))
        }
        let flags: UInt32 = sector.integer(at: 8)
        let known = Flags.alignments | (kind == .delta ? 0 : Flags.shortHold)
        guard flags & ~known == 0 else {
            throw FormatError(.flags, at: 8, expected: "none but \(FormatError.hexadecimal(known))", found: FormatError.hexadecimal(flags))
        }
        let sectorSize: UInt32 = sector.integer(at: 12)
        guard let geometry = Geometry(sectorSize: sectorSize, flags: flags) else {
            throw FormatError(.geometry, at: 12, expected: "512 with 1 MiB, or 4096 with 1, 2, 4 or 8 MiB", found: "\(sectorSize) with flags \(FormatError.hexadecimal(flags))")
        }
        guard let lockspace = sector.name(at: 56) else { throw FormatError(.lockspace, at: 56, expected: "UTF-8", found: "other bytes") }
        guard let name = sector.name(at: 104) else {
            throw FormatError(kind == .delta ? .hostName : .resource, at: 104, expected: "UTF-8", found: "other bytes")
        }
        self.kind = kind
        minorVersion = UInt16(truncatingIfNeeded: version)
        self.geometry = geometry
        isShortHold = flags & Flags.shortHold != 0
        hosts = sector.integer(at: 16)
        maximumHosts = sector.integer(at: 24)
        ownerID = sector.integer(at: 32)
        ownerGeneration = sector.integer(at: 40)
        lver = sector.integer(at: 48)
        self.lockspace = lockspace
        self.name = name
        timestamp = sector.integer(at: 152)
        unused = sector.integer(at: 160)
        ioTimeout = sector.integer(at: 174)
        writeID = sector.integer(at: 176)
        writeGeneration = sector.integer(at: 184)
        writeTimestamp = sector.integer(at: 192)
    }

    /// Refuses the record of another thing than the caller means: before anything is written to it.
    /// - Parameter name: the resource; for a host's record, which names its owner, `nil`.
    public func verify(_ kind: Kind, lockspace: String, name: String? = nil, geometry: Geometry? = nil) throws(FormatError) {
        guard self.kind == kind else {
            throw FormatError(.magic, at: 0, expected: FormatError.hexadecimal(kind.rawValue), found: FormatError.hexadecimal(self.kind.rawValue))
        }
        guard self.lockspace == lockspace else { throw FormatError(.lockspace, at: 56, expected: lockspace.debugDescription, found: self.lockspace.debugDescription) }
        if let name, self.name != name { throw FormatError(.resource, at: 104, expected: name.debugDescription, found: self.name.debugDescription) }
        if let geometry, self.geometry != geometry { throw FormatError(.geometry, at: 12, expected: "\(geometry)", found: "\(self.geometry)") }
        let maximum = kind == .delta ? 1 : UInt64(self.geometry.maximumHosts)
        guard maximumHosts == maximum else { throw FormatError(.maximumHosts, at: 24, expected: "\(maximum)", found: "\(maximumHosts)") }
        guard kind == .delta || (1...maximum).contains(hosts) else { throw FormatError(.hosts, at: 16, expected: "1 to \(maximum)", found: "\(hosts)") }
    }

    /// The record as one sector, the rest zero (for a delta record: no bit set in the host bitmap).
    public var sector: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: geometry.sectorSize)
        bytes.put(kind.rawValue, at: 0)
        bytes.put(kind.version & ~0xFFFF | UInt32(minorVersion), at: 4)
        bytes.put(geometry.flag | (isShortHold ? Flags.shortHold : 0), at: 8)
        bytes.put(UInt32(geometry.sectorSize), at: 12)
        bytes.put(hosts, at: 16)
        bytes.put(maximumHosts, at: 24)
        bytes.put(ownerID, at: 32)
        bytes.put(ownerGeneration, at: 40)
        bytes.put(lver, at: 48)
        bytes.put(name: lockspace, at: 56)
        bytes.put(name: name, at: 104)
        bytes.put(timestamp, at: 152)
        bytes.put(unused, at: 160)
        bytes.put(Checksum.of(bytes[..<Self.checked]), at: 168)
        bytes.put(ioTimeout, at: 174)
        bytes.put(writeID, at: 176)
        bytes.put(writeGeneration, at: 184)
        bytes.put(writeTimestamp, at: 192)
        return bytes
    }

    /// This record with another time, if that is all that was written where it begins at `offset` since `earlier` was read: what a renewal does.
    /// `nil`: something else changed, or the checksum is wrong.
    public func renewed(in area: [UInt8], since earlier: [UInt8], at offset: Int) -> LeaderRecord? {
        guard offset + Self.size <= area.count, offset + Self.size <= earlier.count else { return nil }
        let isRenewal = area.withUnsafeBytes { area in
            earlier.withUnsafeBytes { earlier in
                for place in stride(from: 0, to: Self.size, by: 4)
                where area.loadUnaligned(fromByteOffset: offset + place, as: UInt32.self) != earlier.loadUnaligned(fromByteOffset: offset + place, as: UInt32.self) {
                    guard place == Self.timeOffset || place == Self.timeOffset + 4 || place == Self.checked else { return false }
                }
                return true
            }
        }
        let sector = area[offset..<(offset + Self.size)]
        guard isRenewal, Checksum.of(sector.prefix(Self.checked)) == sector.integer(at: Self.checked) else { return nil }
        var renewed = self
        renewed.timestamp = sector.integer(at: Self.timeOffset)
        return renewed
    }
}
