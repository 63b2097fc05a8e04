/// One host's block of a resource's lease area: its part in the ballot (*dblock*) and, 128 bytes on, its shared hold (*mode block*).
public struct BallotBlock: Hashable, Codable, Sendable {
    /// Highest ballot number this host entered.
    public var mbal: UInt64 = 0
    /// Ballot in which it last proposed; 0 if it did not.
    public var bal: UInt64 = 0
    /// Proposed owner: host id, generation, time of its clock.
    public var owner: UInt64 = 0
    public var ownerGeneration: UInt64 = 0
    public var ownerTimestamp: UInt64 = 0
    /// The lease version this ballot decides.
    public var lver: UInt64 = 0
    /// The owner gave the lease back; not covered by the checksum.
    public var isReleased = false
    /// Generation of a shared hold; `nil` if there is none.
    public var sharedGeneration: UInt64?

    static let checked = 48
    static let modeOffset = 128
    static let releasedFlag: UInt32 = 1
    static let sharedFlag: UInt32 = 1

    public init(mbal: UInt64 = 0, lver: UInt64 = 0) {
        self.mbal = mbal
        self.lver = lver
    }

    /// Reads and verifies a block. An all-zero one is valid without a checksum.
    public init(_ sector: ArraySlice<UInt8>) throws(FormatError) {
        guard sector.count >= Self.modeOffset + 16 else { throw .truncated }
        if !sector.prefix(Self.modeOffset + 16).isZero {
            mbal = sector.integer(at: 0)
            bal = sector.integer(at: 8)
            owner = sector.integer(at: 16)
            ownerGeneration = sector.integer(at: 24)
            ownerTimestamp = sector.integer(at: 32)
            lver = sector.integer(at: 40)
            let stored: UInt32 = sector.integer(at: 48)
            if stored != 0 || mbal != 0 || bal != 0 || owner != 0 || lver != 0 {
                let computed = Checksum.of(sector.prefix(Self.checked))
                guard stored == computed else { throw .badChecksum(stored: stored, computed: computed) }
            }
            isReleased = sector.integer(at: 52, as: UInt32.self) & Self.releasedFlag != 0
            if sector.integer(at: Self.modeOffset, as: UInt32.self) & Self.sharedFlag != 0 {
                sharedGeneration = sector.integer(at: Self.modeOffset + 8)
            }
        }
    }

    public func sector(_ geometry: Geometry) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: geometry.sectorSize)
        bytes.put(mbal, at: 0)
        bytes.put(bal, at: 8)
        bytes.put(owner, at: 16)
        bytes.put(ownerGeneration, at: 24)
        bytes.put(ownerTimestamp, at: 32)
        bytes.put(lver, at: 40)
        bytes.put(Checksum.of(bytes[..<Self.checked]), at: 48)
        bytes.put(isReleased ? Self.releasedFlag : 0, at: 52)
        if let sharedGeneration {
            bytes.put(Self.sharedFlag, at: Self.modeOffset)
            bytes.put(sharedGeneration, at: Self.modeOffset + 8)
        }
        return bytes
    }
}

/// The record in the second sector of a lease area: somebody asks the owner to give the lease up.
public struct RequestRecord: Hashable, Sendable {
    public enum Mode: UInt32, Sendable { case none = 0, force = 1, graceful = 2 }
    static let magic: UInt32 = 0x0829_2011
    static let version: UInt32 = 0x0001_0001

    public var lver: UInt64
    public var mode: Mode

    public init(lver: UInt64 = 0, mode: Mode = .none) {
        self.lver = lver
        self.mode = mode
    }

    public init(_ sector: ArraySlice<UInt8>) throws(FormatError) {
        guard sector.count >= 24 else { throw .truncated }
        let magic: UInt32 = sector.integer(at: 0)
        guard magic == Self.magic else { throw .badMagic(magic) }
        let version: UInt32 = sector.integer(at: 4)
        guard version >> 16 == Self.version >> 16 else { throw .badVersion(version) }
        lver = sector.integer(at: 8)
        mode = Mode(rawValue: sector.integer(at: 16)) ?? .none
    }

    public func sector(_ geometry: Geometry) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: geometry.sectorSize)
        bytes.put(Self.magic, at: 0)
        bytes.put(Self.version, at: 4)
        bytes.put(lver, at: 8)
        bytes.put(mode.rawValue, at: 16)
        return bytes
    }
}
