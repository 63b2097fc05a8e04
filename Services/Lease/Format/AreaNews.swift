/// What a read of a lockspace says before any of its records is taken apart.
public struct AreaNews: Sendable {
    /// The highest host id that was ever used; 0: none.
    public private(set) var highest = 0
    /// The shortest io_timeout recorded in any sector, used or not; `nil`: none is.
    public private(set) var shortestTimeout: UInt16?
    /// Used sectors whose records are not what they were, in order.
    public private(set) var hosts: [Int] = []

    /// - Parameters:
    ///   - earlier: what was read before, or less of it.
    ///   - again: host ids that count as changed in any case.
    public init(of area: [UInt8], since earlier: [UInt8], geometry: Geometry, again: Set<Int> = []) {
        let count = min(area.count / geometry.sectorSize, geometry.maximumHosts)
        area.withUnsafeBytes { area in
            earlier.withUnsafeBytes { earlier in
                for host in 1..<(count + 1) {
                    let start = (host - 1) * geometry.sectorSize
                    let sector = UnsafeRawBufferPointer(rebasing: area[start..<(start + geometry.sectorSize)])
                    let timeout = UInt16(littleEndian: sector.loadUnaligned(fromByteOffset: 174, as: UInt16.self))
                    if timeout > 0 { shortestTimeout = min(shortestTimeout ?? timeout, timeout) }
                    let isUsed = sector.loadUnaligned(fromByteOffset: 32, as: UInt64.self) != 0 || sector.loadUnaligned(fromByteOffset: 152, as: UInt64.self) != 0
                    guard isUsed else { continue }
                    highest = host
                    let isKnown = start + LeaderRecord.size <= earlier.count && !again.contains(host)
                    if isKnown, Self.isSame(sector, UnsafeRawBufferPointer(rebasing: earlier[start...])) { continue }
                    hosts.append(host)
                }
            }
        }
    }

    /// Without a way out of the loop, which then takes many words at once.
    private static func isSame(_ record: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer) -> Bool {
        var difference: UInt64 = 0
        for offset in stride(from: 0, to: LeaderRecord.size, by: 8) {
            difference |= record.loadUnaligned(fromByteOffset: offset, as: UInt64.self) ^ other.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        }
        return difference == 0
    }
}
