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
