import Bus
import CLinux
import Foundation
import Messages
import Synchronization
import Testing

/// Endpoints and keys of one test, in a directory of its own that goes with it.
final class BusFixture: Sendable {
    let directory: String
    let serverKeys: KeyFile
    let clientKeys: KeyFile
    let agentKeys: KeyFile
    let strangerKeys: KeyFile
    let allow: AllowList

    init() throws {
        directory = "/tmp/bus-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        serverKeys = try .generate(name: "fencing-service", role: .service, host: nil)
        clientKeys = try .generate(name: "placement-service", role: .service, host: nil)
        agentKeys = try .generate(name: "host1/host-agent", role: .agent, host: "host1")
        strangerKeys = try .generate(name: "placement-service", role: .service, host: nil)
        allow = AllowList(entries: [serverKeys.entry, clientKeys.entry, agentKeys.entry])
        Reactor.shared.start()
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func ipc(_ name: String) -> String { "ipc://\(directory)/\(name)" }
    var serverSecurity: BusSecurity { BusSecurity(keys: serverKeys, allow: allow) }
    func security(_ keys: KeyFile) -> BusSecurity { BusSecurity(keys: keys, allow: allow) }

    /// A loopback endpoint that was free a moment ago.
    static func tcp() throws -> String {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(file) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(file, $0, length) == 0 && getsockname(file, $0, &length) == 0 }
        }
        try #require(bound)
        return "tcp://127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
    }
}

/// A value that the reactor writes and a test waits for.
final class Box<Value: Sendable>: Sendable {
    private let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
    var now: Value { value.withLock { $0 } }
    func change(_ body: @Sendable (inout Value) -> Void) { value.withLock { body(&$0) } }
}

/// Waits for a condition, looking every few milliseconds; a failed expectation if it never holds.
func eventually(within seconds: Double = 10, _ what: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async -> Bool) async {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < deadline {
        if await condition() { return }
        try? await Task.sleep(for: .milliseconds(5))
    }
    Issue.record(what ?? "the condition did not come true", sourceLocation: sourceLocation)
}

/// Blocking calls of a test, off the cooperative pool.
func onThread<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result(catching: work)) }
    }
}

/// A body with something in it.
struct Greeting: Codable, Hashable, Sendable {
    var text: String
    var count: Int = 1
}

/// Who asked, as an echo server tells it.
struct Echo: Codable, Hashable, Sendable {
    var text: String
    var role: Role
    var host: String?
    var from: String?
    var lineage: String?
    var term: UInt64?
}

@ReactorActor
func echoServer(_ endpoints: [String], _ security: BusSecurity? = nil, seen: Box<[IncomingRequest]> = Box([])) throws -> RequestServer {
    // Set before the first request can come: both are on the reactor.
    var server: RequestServer?
    let made = try RequestServer(endpoints: endpoints, security: security) { request in
        seen.change { $0.append(request) }
        let reply: Reply
        do {
            let body = try request.body(Greeting.self)
            let caller = request.caller
            reply = .success(Echo(text: body.text, role: caller.role, host: caller.host, from: caller.from, lineage: caller.lineage, term: caller.term))
        } catch {
            reply = .refused(error as? RequestError ?? RequestError(RequestErrorCode.invalid, "\(error)"))
        }
        server?.send(ReplyFrame.encode(id: request.header.id, reply), to: request.returnPath)
    }
    server = made
    return made
}
