/// The record in the second sector of a lease area: somebody asks the owner to give the lease up.
public struct RequestRecord: Hashable, Sendable {
    public enum Mode: UInt32, Sendable { case none = 0, force = 1, graceful = 2 }
    static let magic: UInt32 = 0x0829_2011
    static let version: UInt32 = 0x0001_0001
    static let size = 24

    public var lver: UInt64
    public var mode: Mode

    public init(lver: UInt64 = 0, mode: Mode = .none) {
        self.lver = lver
        self.mode = mode
    }

    public init(_ sector: ArraySlice<UInt8>) throws(FormatError) {
        guard sector.count >= Self.size else { throw FormatError(.length, at: 0, expected: "\(Self.size) bytes", found: "\(sector.count) bytes") }
        let magic: UInt32 = sector.integer(at: 0)
        guard magic == Self.magic else {
            throw FormatError(.magic, at: 0, expected: FormatError.hexadecimal(Self.magic), found: FormatError.hexadecimal(magic))
        }
        let version: UInt32 = sector.integer(at: 4)
        guard version >> 16 == Self.version >> 16 else {
            throw FormatError(.version, at: 4, expected: "major version \(Self.version >> 16)", found: FormatError.hexadecimal(version))
        }
        let stated: UInt32 = sector.integer(at: 16)
        // Nobody dies of a request that cannot be read.
        guard let mode = Mode(rawValue: stated) else { throw FormatError(.mode, at: 16, expected: "0, 1 (force) or 2 (graceful)", found: "\(stated)") }
        lver = sector.integer(at: 8)
        self.mode = mode
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
