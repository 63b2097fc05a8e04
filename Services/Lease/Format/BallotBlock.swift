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
    /// Bytes of a sector that mean something.
    static let size = modeOffset + 16
    static let releasedFlag: UInt32 = 1
    static let sharedFlag: UInt32 = 1

    public init(mbal: UInt64 = 0, lver: UInt64 = 0) {
        self.mbal = mbal
        self.lver = lver
    }

    /// Reads and verifies a block. An all-zero one is valid without a checksum.
    public init(_ sector: ArraySlice<UInt8>) throws(FormatError) {
        guard sector.count >= Self.size else { throw FormatError(.length, at: 0, expected: "\(Self.size) bytes", found: "\(sector.count) bytes") }
        if !sector.prefix(Self.size).isZero {
            mbal = sector.integer(at: 0)
            bal = sector.integer(at: 8)
            owner = sector.integer(at: 16)
            ownerGeneration = sector.integer(at: 24)
            ownerTimestamp = sector.integer(at: 32)
            lver = sector.integer(at: 40)
            let stored: UInt32 = sector.integer(at: 48)
            if stored != 0 || mbal != 0 || bal != 0 || owner != 0 || lver != 0 {
                let computed = Checksum.of(sector.prefix(Self.checked))
                guard stored == computed else {
                    throw FormatError(.checksum, at: Self.checked, expected: FormatError.hexadecimal(computed), found: FormatError.hexadecimal(stored))
                }
            }
            isReleased = sector.integer(at: 52, as: UInt32.self) & Self.releasedFlag != 0
            sharedGeneration = try Self.mode(sector)
        }
    }

    /// The mode block has no checksum. Nobody writes a flag without a generation or a generation without the flag, so that one that is damaged is not taken for no hold.
    private static func mode(_ sector: ArraySlice<UInt8>) throws(FormatError) -> UInt64? {
        let flags: UInt32 = sector.integer(at: modeOffset)
        let generation: UInt64 = sector.integer(at: modeOffset + 8)
        guard flags == (generation == 0 ? 0 : sharedFlag) else {
            throw FormatError(
                .mode, at: modeOffset, expected: "0x0 without a generation or \(FormatError.hexadecimal(sharedFlag)) with one",
                found: "\(FormatError.hexadecimal(flags)) with generation \(generation)")
        }
        return generation == 0 ? nil : generation
    }

    /// Refuses a shared hold of another life of `host` than the one that took part in this ballot.
    /// Between the ballots of a conversion a block names no owner; then there is nothing to compare.
    public func verify(host: Int) throws(FormatError) {
        guard let sharedGeneration, owner == UInt64(host), ownerGeneration != sharedGeneration else { return }
        throw FormatError(.generation, at: Self.modeOffset + 8, expected: "\(ownerGeneration), that of its ballot", found: "\(sharedGeneration)")
    }

    /// The hosts that hold the lease in shared mode, by the blocks of a whole area; in doubt, also one whose block is damaged.
    public static func sharedHolders(in area: ArraySlice<UInt8>, geometry: Geometry) -> [(host: Int, generation: UInt64)] {
        (1...geometry.maximumHosts).compactMap { host in
            let start = area.startIndex + geometry.blockOffset(host: host) + modeOffset
            guard start + 16 <= area.endIndex else { return nil }
            let mode = area[start..<(start + 16)]
            return mode.isZero ? nil : (host, mode.integer(at: 8))
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
