import LeaseFormat
import Messages

/// The used sectors of a lockspace's three volumes.
struct LockspaceImage: Hashable, Sendable {
    enum Volume: UInt8, Hashable, Sendable, CaseIterable {
        case ids, leases, xleases

        func path(in layout: DomainLayout) -> String {
            switch self {
            case .ids: layout.ids
            case .leases: layout.leases
            case .xleases: layout.xleases
            }
        }
    }

    struct Extent: Hashable, Sendable {
        var volume: Volume
        var offset: UInt64
        var bytes: [UInt8]
        var end: UInt64 { offset + UInt64(bytes.count) }
    }

    let lockspace: String
    /// Whoever made it, and when by the wall clock; for people.
    var host = ""
    var time: UInt64 = 0
    /// In the order in which they were added; none overlaps another.
    private(set) var extents: [Extent] = []

    static let unit = 512

    init(lockspace: String) { self.lockspace = lockspace }

    /// Takes what was read in, without its zero sectors.
    mutating func add(_ volume: Volume, _ offset: UInt64, _ bytes: [UInt8]) {
        guard bytes.contains(where: { $0 != 0 }) else { return }
        var start: Int?
        for position in stride(from: 0, to: bytes.count, by: Self.unit) {
            let sector = bytes[position..<min(position + Self.unit, bytes.count)]
            let isUsed = sector.contains { $0 != 0 }
            if isUsed, start == nil { start = position }
            if !isUsed, let first = start {
                extents.append(Extent(volume: volume, offset: offset + UInt64(first), bytes: Array(bytes[first..<position])))
                start = nil
            }
        }
        if let start { extents.append(Extent(volume: volume, offset: offset + UInt64(start), bytes: Array(bytes[start...]))) }
    }

    /// What is there, zero where nothing was.
    func read(_ volume: Volume, _ offset: UInt64, _ length: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: length)
        let end = offset + UInt64(length)
        for extent in extents where extent.volume == volume && extent.offset < end && offset < extent.end {
            let from = max(extent.offset, offset), to = min(extent.end, end)
            bytes.replaceSubrange(Int(from - offset)..<Int(to - offset), with: extent.bytes[Int(from - extent.offset)..<Int(to - extent.offset)])
        }
        return bytes
    }
}

/// A lockspace in one file: a header of 4096 bytes, then each extent with a head of 32 bytes; every part has a checksum, so that one that is not whole is known as such.
extension LockspaceImage {
    static let headerSize = 4096
    private static let headSize = 32
    private static let magic: UInt64 = 0x314B_4142_4B57_4C42
    private static let largest = 1 << 40

    var backup: [UInt8] {
        var body = [UInt8]()
        for extent in extents {
            var head = [UInt8]()
            head.append(number: UInt64(extent.volume.rawValue))
            head.append(number: extent.offset)
            head.append(number: UInt64(extent.bytes.count))
            head.append(number: Checksum.of(extent.bytes[...]))
            head.append(number: Checksum.of(head[...]))
            body += head + extent.bytes
        }
        var file = [UInt8]()
        file.append(number: Self.magic)
        file.append(number: UInt64(Self.headerSize + body.count))
        file.append(number: UInt64(extents.count))
        file.append(number: time)
        file.append(name: lockspace)
        file.append(name: host)
        file += [UInt8](repeating: 0, count: Self.headerSize - 4 - file.count)
        file.append(number: Checksum.of(file[...]))
        file += body
        // Whole pages, as direct I/O wants them.
        return file + [UInt8](repeating: 0, count: (Self.headerSize - file.count % Self.headerSize) % Self.headerSize)
    }

    /// How long the file is whose header this is.
    /// - Throws: `lockspace.bad-backup`.
    static func length(ofBackup header: [UInt8]) throws(RequestError) -> Int {
        guard header.count >= headerSize, header.number(at: 0) == magic else { throw damaged("it does not begin like one") }
        let stored: UInt32 = header.number(at: headerSize - 4)
        guard stored == Checksum.of(header[..<(headerSize - 4)]) else { throw damaged("the checksum of its header does not match") }
        let length: UInt64 = header.number(at: 8)
        guard length < largest else { throw damaged("its header names an impossible length") }
        return (Int(length) + headerSize - 1) / headerSize * headerSize
    }

    /// - Throws: `lockspace.bad-backup`: the first part that is not what was written.
    init(backup file: [UInt8]) throws(RequestError) {
        let length = try Self.length(ofBackup: file)
        guard file.count >= length else { throw Self.damaged("it ends before its end") }
        guard let lockspace = file.name(at: 32), let host = file.name(at: 80) else { throw Self.damaged("its names are not text") }
        self.init(lockspace: lockspace)
        self.host = host
        time = file.number(at: 24)
        let count: UInt64 = file.number(at: 16)
        var position = Self.headerSize
        var number: UInt64 = 0
        while number < count {
            number += 1
            guard position + Self.headSize <= file.count else { throw Self.damaged("extent \(number) is missing") }
            let head = Array(file[position..<(position + Self.headSize)])
            guard head.number(at: 28, as: UInt32.self) == Checksum.of(head[..<28]) else { throw Self.damaged("the head of extent \(number) at byte \(position) does not match its checksum") }
            guard let volume = UInt8(exactly: head.number(at: 0, as: UInt64.self)).flatMap(Volume.init) else { throw Self.damaged("extent \(number) is of an unknown volume") }
            let length = Int(clamping: head.number(at: 16, as: UInt64.self))
            position += Self.headSize
            guard length <= file.count - position else { throw Self.damaged("extent \(number) is cut off") }
            let bytes = Array(file[position..<(position + length)])
            guard head.number(at: 24, as: UInt32.self) == Checksum.of(bytes[...]) else { throw Self.damaged("extent \(number) at byte \(position) does not match its checksum") }
            extents.append(Extent(volume: volume, offset: head.number(at: 8), bytes: bytes))
            position += length
        }
    }

    private static func damaged(_ why: String) -> RequestError { RequestError(LockspaceErrorCode.badBackup, "this is no whole backup of a lockspace: \(why)") }
}

/// Says, in place of every host id's sector, that a lockspace is being written anew: nobody can join, and everybody can tell why.
struct ReinitializationMarker: Hashable, Sendable {
    var lockspace: String
    /// The request that began it.
    var request: RequestID
    /// The host whose lease-service carries it out.
    var host: String
    /// Holds what was there, on that host.
    var backup: String

    static let magic: UInt32 = 0x494E_4552

    private var text: String { "bulwark: this lockspace is being written anew\n\(lockspace)\n\(request)\n\(host)\n\(backup)\n" }
    /// Whether its text fits its sector.
    var isStorable: Bool { text.utf8.count <= LockspaceImage.unit - 8 }

    var sector: [UInt8] {
        var bytes = [UInt8]()
        bytes.append(number: Self.magic)
        bytes += Array(text.utf8.prefix(LockspaceImage.unit - 8))
        bytes += [UInt8](repeating: 0, count: LockspaceImage.unit - 4 - bytes.count)
        bytes.append(number: Checksum.of(bytes[...]))
        return bytes
    }

    /// `nil` if it is none.
    init?(_ sector: ArraySlice<UInt8>) {
        let bytes = Array(sector.prefix(LockspaceImage.unit))
        guard bytes.count == LockspaceImage.unit, bytes.number(at: 0) == Self.magic, bytes.number(at: LockspaceImage.unit - 4) == Checksum.of(bytes[..<(LockspaceImage.unit - 4)]),
            let text = String(validating: bytes[4..<(LockspaceImage.unit - 4)].prefix { $0 != 0 }, as: UTF8.self)
        else { return nil }
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard lines.count >= 5 else { return nil }
        self.init(lockspace: lines[1], request: lines[2], host: lines[3], backup: lines[4])
    }

    init(lockspace: String, request: RequestID, host: String, backup: String) {
        self.lockspace = lockspace
        self.request = request
        self.host = host
        self.backup = backup
    }

    /// What a join, a look or a repair that meets it answers.
    var error: RequestError {
        RequestError(
            LockspaceErrorCode.unfinished,
            "a reinitialisation of \(lockspace) that \(host) began has not finished; resume it there (bulwark lockspace reinitialize --resume), or restore \(backup)",
            details: ["request": request, "host": host, "backup": backup])
    }
}

extension [UInt8] {
    fileprivate mutating func append(number: some FixedWidthInteger) {
        for index in 0..<(number.bitWidth / 8) { append(UInt8(truncatingIfNeeded: number >> (8 * index))) }
    }

    fileprivate mutating func append(name: String) {
        let bytes = Array(name.utf8.prefix(Names.length))
        self += bytes + [UInt8](repeating: 0, count: Names.length - bytes.count)
    }

    fileprivate func number<T: FixedWidthInteger>(at offset: Int, as type: T.Type = T.self) -> T {
        (0..<(T.bitWidth / 8)).reversed().reduce(T(0)) { $0 << 8 | T(truncatingIfNeeded: self[offset + $1]) }
    }

    fileprivate func name(at offset: Int) -> String? {
        String(validating: self[offset..<(offset + Names.length)].prefix { $0 != 0 }, as: UTF8.self)
    }
}
