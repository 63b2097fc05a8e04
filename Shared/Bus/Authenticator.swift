import CZeroMQ
#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// The ZAP handler of the process: admits the peers of a CURVE socket by the allow-list of that socket's domain, under the name of their entry.
///
/// libzmq asks it on inproc://zeromq.zap.01 during a handshake, so it must be bound before any server socket; the asking I/O thread does not wait.
@ReactorActor
final class Authenticator {
    static let shared = Authenticator()

    private var lists: [String: AllowList] = [:]
    private var lastDomain = 0
    private var socket: Socket?

    private init() {}

    /// Opens a domain for one server.
    func open(_ allow: AllowList) throws -> String {
        if socket == nil {
            let reply = try Socket(.reply, in: .reactor)
            try reply.bind(Endpoint("inproc://zeromq.zap.01"), keys: nil, domain: nil)
            socket = reply
            _ = Reactor.shared.attach(reply) { self.answerAll() }
        }
        lastDomain += 1
        let domain = "bulwark.\(lastDomain)"
        lists[domain] = allow
        return domain
    }

    /// Replaces the list of a domain: for new peers at once, and for the entry of connected ones at their next request.
    func update(_ domain: String, _ allow: AllowList) { lists[domain] = allow }

    func close(_ domain: String) { lists[domain] = nil }

    func entry(named name: String, domain: String) -> AllowList.Entry? { lists[domain]?.entry(name: name) }

    private func answerAll() {
        while let socket, let request = socket.receive(keeping: 7) {
            let frames = request.frames
            // version, request id, domain, address, identity, mechanism, the peer's public key
            guard frames.count == 7, request.count == 7 else {
                _ = socket.send(Data("1.0".utf8), frames.count > 1 ? frames[1] : Data(), Data("500".utf8), Data("bad ZAP request".utf8), Data(), Data())
                continue
            }
            let domain = String(decoding: frames[2], as: UTF8.self)
            let isCurve = String(decoding: frames[5], as: UTF8.self) == "CURVE"
            if isCurve, let key = Self.z85(frames[6]), let entry = lists[domain]?.entry(curve: key) {
                _ = socket.send(frames[0], frames[1], Data("200".utf8), Data("OK".utf8), Data(entry.name.utf8), Data())
            } else {
                _ = socket.send(frames[0], frames[1], Data("400".utf8), Data("unknown key".utf8), Data(), Data())
            }
        }
    }

    private static func z85(_ key: Data) -> String? {
        guard key.count == 32 else { return nil }
        var text = [CChar](repeating: 0, count: 41)
        guard zmq_z85_encode(&text, Array(key), key.count) != nil else { return nil }
        return String(decoding: text.prefix(40).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
