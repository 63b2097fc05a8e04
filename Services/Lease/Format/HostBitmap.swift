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
