import Foundation
import LeaseEngine
import LeaseFormat
import LeaseVolume
import Messages

/// A volume of leases that is read and written without any service, by direct I/O.
struct DirectVolume {
    let path: String

    /// Bytes of the file or device; `nil` if there is none.
    var size: UInt64? {
        guard let handle = FileHandle(forReadingAtPath: path) else { return nil }
        defer { try? handle.close() }
        return try? handle.seekToEnd()
    }

    /// Where a device ends; a file grows.
    var limit: UInt64? {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        return attributes?[.type] as? FileAttributeType == .typeBlockSpecial ? size : nil
    }

    /// - Throws: `RequestError` `volume.unreadable` if there is no such file.
    func requireSize() throws(RequestError) -> UInt64 {
        guard let size else {
            let reason = FileManager.default.fileExists(atPath: path) ? "cannot be opened; run as its owner or root" : "does not exist"
            throw OperatorError.badVolume.error("\(path) \(reason)")
        }
        return size
    }

    /// Exactly these bytes.
    /// - Throws: `RequestError` `volume.unreadable`.
    func read(_ offset: UInt64, _ length: Int) throws(RequestError) -> [UInt8] {
        let result = DirectFile.read(path: path, offset: offset, length: length)
        guard case .data(let bytes) = result else { throw Self.error(result, "read \(length) bytes at \(offset) of \(path)") }
        return bytes
    }

    /// As much of these bytes as the volume has, in whole sectors of 512 bytes.
    func readWhatIsThere(_ offset: UInt64, _ length: Int) throws(RequestError) -> [UInt8] {
        guard let size, size > offset else { return [] }
        let there = min(UInt64(length), size - offset) / 512 * 512
        return there == 0 ? [] : try read(offset, Int(there))
    }

    /// - Throws: `RequestError` `volume.unreadable`; some of the sectors may have been written.
    func write(_ offset: UInt64, _ bytes: [UInt8]) throws(RequestError) {
        let result = DirectFile.write(path: path, offset: offset, bytes: bytes, notAfter: Instant(nanoseconds: .max), create: true)
        guard case .written = result else { throw Self.error(result, "write \(bytes.count) bytes at \(offset) of \(path)") }
    }

    private static func error(_ result: IOResult, _ what: String) -> RequestError {
        let reason = switch result {
        case .missing(let reason), .failed(let reason): reason
        default: "no answer"
        }
        return OperatorError.badVolume.error("cannot \(what): \(reason)")
    }
}

/// What stands in an area of a volume, as far as a writer must know it.
struct AreaSurvey {
    enum Content: Hashable {
        /// Zeros, or behind the end of the file.
        case nothing
        case lockspace(String)
        /// The rest of an initialisation that did not finish.
        case unfinishedLockspace(String)
        case lease(lockspace: String, resource: String)
        case removedLease(lockspace: String, resource: String)
        case index
        case other
    }

    var content: Content
    /// Who uses it, in sentences.
    var users: [String] = []
    /// What could not be read.
    var unreadable: [String] = []

    /// - Parameter bytes: the area, as much of it as is there.
    init(_ bytes: [UInt8]) {
        guard bytes.contains(where: { $0 != 0 }) else {
            content = .nothing
            return
        }
        if let record = try? LeaderRecord(bytes[...]) {
            switch record.kind {
            case .delta:
                content = .lockspace(record.lockspace)
                surveyHosts(bytes, record)
            case .paxos where record.name.isEmpty, .cleared:
                content = .removedLease(lockspace: record.lockspace, resource: record.name)
            case .paxos:
                content = .lease(lockspace: record.lockspace, resource: record.name)
                surveyBlocks(bytes, record)
            }
        } else if Self.isIndex(bytes) {
            content = .index
        } else if bytes.prefix(4).allSatisfy({ $0 == 0 }), let second = Self.secondHost(bytes) {
            content = .unfinishedLockspace(second.lockspace)
        } else {
            content = .other
        }
    }

    /// In a sentence; `nil` for nothing.
    var description: String? {
        switch content {
        case .nothing: nil
        case .lockspace(let name): "the lockspace \(name)"
        case .unfinishedLockspace(let name): "the lockspace \(name), whose initialisation did not finish"
        case .lease(let lockspace, let resource): "the lease \(resource) of lockspace \(lockspace)"
        case .removedLease: "the rest of a removed lease"
        case .index: "an index of leases"
        case .other: "data of another kind"
        }
    }

    private static func secondHost(_ bytes: [UInt8]) -> LeaderRecord? {
        for sector in [512, 4096] where bytes.count >= 2 * sector {
            if let record = try? LeaderRecord(bytes[sector...]), record.kind == .delta { return record }
        }
        return nil
    }

    private static func isIndex(_ bytes: [UInt8]) -> Bool {
        bytes.starts(with: [0x12, 0x15, 0x20, 0x16]) || bytes.starts(with: [0x18, 0x20, 0x04, 0x01])
    }

    private mutating func surveyHosts(_ bytes: [UInt8], _ first: LeaderRecord) {
        let sector = first.geometry.sectorSize
        for host in 1...first.geometry.maximumHosts {
            let start = Int(first.geometry.deltaOffset(host: host))
            guard start + sector <= bytes.count else { break }
            do {
                let record = try LeaderRecord(bytes[start..<(start + sector)])
                if !record.isFree { users.append("host id \(host) (\(record.name), generation \(record.ownerGeneration)) has not given its id back") }
            } catch {
                unreadable.append("the sector of host id \(host): \(error.sentence)")
            }
        }
    }

    private mutating func surveyBlocks(_ bytes: [UInt8], _ leader: LeaderRecord) {
        if !leader.isFree { users.append("host id \(leader.ownerID), generation \(leader.ownerGeneration), holds it, version \(leader.lver)") }
        let sector = leader.geometry.sectorSize
        for host in 1...leader.geometry.maximumHosts {
            let start = leader.geometry.blockOffset(host: host)
            guard start + sector <= bytes.count else { break }
            do {
                let block = try BallotBlock(bytes[start..<(start + sector)])
                if let generation = block.sharedGeneration { users.append("host id \(host), generation \(generation), holds it shared") }
            } catch {
                unreadable.append("the block of host id \(host): \(error.sentence)")
            }
        }
    }
}
