/// Sector size and lease area size of a volume: both are recorded in every leader record, independent of what the device reports.
public struct Geometry: Hashable, Codable, Sendable, CustomStringConvertible {
    /// 512 or 4096 bytes.
    public let sectorSize: Int
    /// Bytes of one lease area: 1, 2, 4 or 8 MiB.
    public let alignment: Int
    /// Host ids are 1...maximumHosts; also the stride of ballot numbers.
    public let maximumHosts: Int

    /// What oVirt and sanlock use by default: 512-byte sectors, 1 MiB areas, 2000 hosts.
    public static let standard = Geometry(sectorSize: 512, alignment: mebibyte, maximumHosts: 2000)
    /// The least that must be read at offset 0 to learn a volume's geometry.
    public static let probeLength = 4096
    static let mebibyte = 1 << 20

    private init(sectorSize: Int, alignment: Int, maximumHosts: Int) {
        self.sectorSize = sectorSize
        self.alignment = alignment
        self.maximumHosts = maximumHosts
    }

    /// `nil` for every pair that sanlock does not allow.
    public init?(sectorSize: Int, alignment: Int) {
        switch (sectorSize, alignment / Self.mebibyte) {
        case (512, 1): self.init(sectorSize: 512, alignment: alignment, maximumHosts: 2000)
        case (4096, 1): self.init(sectorSize: 4096, alignment: alignment, maximumHosts: 250)
        case (4096, 2): self.init(sectorSize: 4096, alignment: alignment, maximumHosts: 500)
        case (4096, 4): self.init(sectorSize: 4096, alignment: alignment, maximumHosts: 1000)
        case (4096, 8): self.init(sectorSize: 4096, alignment: alignment, maximumHosts: 2000)
        default: return nil
        }
    }

    /// From a leader record's fields; a record of old writers has no size flag.
    init?(sectorSize: UInt32, flags: UInt32) {
        let alignment: Int
        switch flags & LeaderRecord.Flags.alignments {
        case 0: alignment = sectorSize == 4096 ? 8 : 1
        case 0x10: alignment = 1
        case 0x20: alignment = 2
        case 0x40: alignment = 4
        case 0x80: alignment = 8
        default: return nil
        }
        self.init(sectorSize: Int(sectorSize), alignment: alignment * Self.mebibyte)
    }

    /// Offset in a resource's lease area of the sector for the holder's own value (*LVB*), after the blocks of 2000 hosts.
    /// `nil` where the area is smaller than that: it would be in the area of another lease (which is where sanlock 3.8 puts it).
    public var valueOffset: Int? { (Self.valueSector + 1) * sectorSize <= alignment ? Self.valueSector * sectorSize : nil }
    private static let valueSector = 2002

    public var description: String { "\(sectorSize) with \(alignment / Self.mebibyte) MiB" }

    var flag: UInt32 { UInt32(alignment / Self.mebibyte) << 4 }

    /// Offset of a host's sector in a lockspace area.
    public func deltaOffset(host: Int) -> UInt64 { UInt64((host - 1) * sectorSize) }
    /// Offset of a host's block in a resource's lease area.
    public func blockOffset(host: Int) -> Int { (host + 1) * sectorSize }
}
