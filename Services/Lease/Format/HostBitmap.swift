/// The 256 bytes after 256 in a host's lockspace sector: bit h-1 set asks host h to look at this sector's event, and at the requests for the leases it holds.
public struct HostBitmap: Hashable, Sendable {
    public static let offset = 256
    public static let size = 256
    public private(set) var bytes: [UInt8]

    public init() { bytes = [UInt8](repeating: 0, count: Self.size) }
    /// From a whole sector; one that is too short has no bit set.
    public init(sector: ArraySlice<UInt8>) {
        self.init()
        let field = sector.dropFirst(Self.offset).prefix(Self.size)
        if field.count == Self.size { bytes = Array(field) }
    }

    /// Hosts outside 1...2048 have no bit.
    public subscript(host: Int) -> Bool {
        get { Self.hosts.contains(host) && bytes[(host - 1) / 8] & 1 << ((host - 1) % 8) != 0 }
        set {
            guard Self.hosts.contains(host) else { return }
            let bit: UInt8 = 1 << ((host - 1) % 8)
            if newValue { bytes[(host - 1) / 8] |= bit } else { bytes[(host - 1) / 8] &= ~bit }
        }
    }

    /// Whose bits are set.
    public var hosts: [Int] { isEmpty ? [] : Self.hosts.filter { self[$0] } }
    public var isEmpty: Bool { bytes[...].isZero }

    private static let hosts = 1...(8 * size)

    /// The host ids, rising, whose sectors in this area have the bit of a host set.
    public static func callers(of host: Int, in area: [UInt8], sectorSize: Int) -> [Int] {
        guard hosts.contains(host) else { return [] }
        let place = offset + (host - 1) / 8, bit: UInt8 = 1 << ((host - 1) % 8)
        return (0..<(area.count / sectorSize)).filter { area[$0 * sectorSize + place] & bit != 0 }.map { $0 + 1 }
    }

    public func write(into sector: inout [UInt8]) { sector.replaceSubrange(Self.offset..<(Self.offset + Self.size), with: bytes) }
}

/// What a host tells those whose bit it has set in its ``HostBitmap``: in the `write...` fields of its lockspace record.
public struct HostEvent: Hashable, Codable, Sendable {
    /// The life of the addressed host that is meant.
    public var generation: UInt64
    public var event: UInt64
    public var data: UInt64

    public init(generation: UInt64, event: UInt64, data: UInt64) {
        self.generation = generation
        self.event = event
        self.data = data
    }
}

extension LeaderRecord {
    /// The event in a host's record; `nil` if there is none. Not covered by the checksum: whatever it says must be harmless.
    public var hostEvent: HostEvent? {
        get { kind == .delta && (writeID, writeGeneration, writeTimestamp) != (0, 0, 0) ? HostEvent(generation: writeID, event: writeGeneration, data: writeTimestamp) : nil }
        set {
            guard kind == .delta else { return }
            (writeID, writeGeneration, writeTimestamp) = (newValue?.generation ?? 0, newValue?.event ?? 0, newValue?.data ?? 0)
        }
    }

    /// A host's record as one sector with its bitmap.
    public func sector(bitmap: HostBitmap) -> [UInt8] {
        var bytes = sector
        bitmap.write(into: &bytes)
        return bytes
    }
}
