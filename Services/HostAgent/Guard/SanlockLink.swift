import CLinux
import CSanlock
import GuardEngine
import Glibc
import Messages

/// This process as a client of a sanlock daemon, which holds the leases for as long as anybody has the registered connection open.
///
/// The payload inherits it: what outlives the guard by a moment still holds the leases. The daemon releases them when the last copy is closed, which is also how they are given back.
struct SanlockLink {
    /// Where the thread that acquires tells its end; -1: none is under way.
    private(set) var answer: Int32 = -1
    /// -1: nothing is held.
    private(set) var connection: Int32 = -1

    /// Begins to take the leases of a `take`.
    /// - Returns: why it does not; then nothing was taken.
    mutating func take(_ order: GuardMessage) -> String? {
        guard answer < 0, connection < 0 else { return "leases are held or being taken already" }
        let leases = order.all("lease").compactMap(GuardLease.init)
        let places = order.all("place").compactMap(Self.place)
        guard let library = order["library"], let run = order["run"], !leases.isEmpty, leases.count == places.count else { return "lease-service did not say where the leases are" }
        guard let taking = cs_taking_new(library, run), let pipe = Pipe.make() else { return "no pipe: \(Log.error(errno))" }
        for (lease, place) in zip(leases, places) {
            let failure = cs_taking_add(taking, lease.name.lockspace, lease.name.resource, place.path, place.offset, lease.mode == .shared ? 1 : 0)
            if failure != 0 { return "\(place.path): \(Log.error(-failure))" }
        }
        let failure = cs_taking_start(taking, pipe.write)
        guard failure == 0 else {
            close(pipe.read)
            close(pipe.write)
            return "no thread: \(Log.error(-failure))"
        }
        answer = pipe.read
        return nil
    }

    /// How it ended, once it has; asked when ``answer`` is readable.
    mutating func taken() -> SanlockAnswer? {
        var pipe = pollfd(fd: answer, events: Int16(POLLIN), revents: 0)
        guard answer >= 0, poll(&pipe, 1, 0) == 1 else { return nil }
        var taken = cs_taken()
        let count = read(answer, &taken, MemoryLayout<cs_taken>.size)
        close(answer)
        answer = -1
        guard count == MemoryLayout<cs_taken>.size else { return SanlockAnswer(result: -EIO, why: "the thread that asked sanlock did not answer") }
        connection = taken.connection
        if taken.result != 0 { drop() }
        return SanlockAnswer(result: taken.result, why: withUnsafeBytes(of: taken.why) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }

    /// Whether the daemon ended or closed the connection; told once. It never says anything there unasked, so that whatever is to be read is that.
    mutating func isGone() -> Bool {
        var socket = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        guard connection >= 0, poll(&socket, 1, 0) == 1 else { return false }
        drop()
        return true
    }

    /// Closes this process's copy of the connection.
    mutating func drop() {
        if connection >= 0 { close(connection) }
        connection = -1
    }

    /// `offset path`
    private static func place(_ text: String) -> (offset: UInt64, path: String)? {
        guard let space = text.firstIndex(of: " "), let offset = UInt64(text[..<space]) else { return nil }
        return (offset, String(text[text.index(after: space)...]))
    }
}
