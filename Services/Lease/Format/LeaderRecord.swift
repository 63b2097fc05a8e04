/// Why a sector cannot be believed.
public enum FormatError: Error, Hashable, Codable, Sendable {
    case truncated
    case badMagic(UInt32)
    case badVersion(UInt32)
    /// Flags this program does not know may change the meaning of everything else.
    case unknownFlags(UInt32)
    case badGeometry
    case badChecksum(stored: UInt32, computed: UInt32)
    case badName

    public var sentence: String {
        switch self {
        case .truncated: "the volume is shorter than the record"
        case .badMagic(let magic): "wrong magic 0x\(String(magic, radix: 16))"
        case .badVersion(let version): "unsupported version 0x\(String(version, radix: 16))"
        case .unknownFlags(let flags): "unknown flags 0x\(String(flags, radix: 16))"
        case .badGeometry: "impossible sector or alignment size"
        case .badChecksum(let stored, let computed): "checksum 0x\(String(stored, radix: 16)) should be 0x\(String(computed, radix: 16))"
        case .badName: "a name is not readable text"
        }
    }
}

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

    public var kind: Kind
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
        guard sector.count >= Self.size else { throw .truncated }
        let magic: UInt32 = sector.integer(at: 0)
        guard let kind = Kind(rawValue: magic) else { throw .badMagic(magic) }
        let version: UInt32 = sector.integer(at: 4)
        guard version >> 16 == kind.version >> 16 else { throw .badVersion(version) }
        let stored: UInt32 = sector.integer(at: 168)
        let computed = Checksum.of(sector.prefix(Self.checked))
        guard stored == computed else { throw .badChecksum(stored: stored, computed: computed) }
        let flags: UInt32 = sector.integer(at: 8)
        guard flags & ~(Flags.alignments | Flags.shortHold) == 0 else { throw .unknownFlags(flags) }
        guard let geometry = Geometry(sectorSize: sector.integer(at: 12, as: UInt32.self), flags: flags) else { throw .badGeometry }
        guard let lockspace = sector.name(at: 56), let name = sector.name(at: 104) else { throw .badName }
        self.kind = kind
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
        ioTimeout = sector.integer(at: 174)
        writeID = sector.integer(at: 176)
        writeGeneration = sector.integer(at: 184)
        writeTimestamp = sector.integer(at: 192)
    }

    /// The record as one sector, the rest zero (for a delta record: no bit set in the host bitmap).
    public var sector: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: geometry.sectorSize)
        bytes.put(kind.rawValue, at: 0)
        bytes.put(kind.version, at: 4)
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
        bytes.put(Checksum.of(bytes[..<Self.checked]), at: 168)
        bytes.put(ioTimeout, at: 174)
        bytes.put(writeID, at: 176)
        bytes.put(writeGeneration, at: 184)
        bytes.put(writeTimestamp, at: 192)
        return bytes
    }

    /// Whether nobody ever owned this host id; read without verifying, to skip the many unused sectors of a lockspace cheaply.
    public static func isNeverOwned(_ sector: ArraySlice<UInt8>) -> Bool {
        sector.integer(at: 32, as: UInt64.self) == 0 && sector.integer(at: 152, as: UInt64.self) == 0
    }
}

/// The 256 bytes after 256 in a host's lockspace sector: bit h-1 set asks host h to look at this sector's event.
public struct HostBitmap: Hashable, Sendable {
    public static let offset = 256
    public static let size = 256
    public private(set) var bytes: [UInt8]

    public init() { bytes = [UInt8](repeating: 0, count: Self.size) }
    /// From a whole sector of at least 512 bytes.
    public init(sector: ArraySlice<UInt8>) { bytes = Array(sector.dropFirst(Self.offset).prefix(Self.size)) }

    public subscript(host: Int) -> Bool {
        get { bytes[(host - 1) / 8] & 1 << ((host - 1) % 8) != 0 }
        set {
            let bit: UInt8 = 1 << ((host - 1) % 8)
            if newValue { bytes[(host - 1) / 8] |= bit } else { bytes[(host - 1) / 8] &= ~bit }
        }
    }

    public func write(into sector: inout [UInt8]) {
        for (index, byte) in bytes.enumerated() { sector[Self.offset + index] = byte }
    }
}
