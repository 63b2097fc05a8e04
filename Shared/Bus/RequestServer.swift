#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// The `requests` endpoint of a process: answers REQ and DEALER sockets of any language.
///
/// | endpoint | peers | role of the caller |
/// |---|---|---|
/// | `ipc://`, loopback without keys | whoever may open the socket (mode 0600) | operator; service or agent if `from` names one |
/// | `tcp://` with keys | the allow-list, by CURVE | that of the sender's key |
/// | other `tcp://` without keys | refused at start | |
///
/// Input that is no request gets an error reply, is counted and goes no further. It lives, and keeps what `onRequest` captures, until ``close()``.
@ReactorActor
public final class RequestServer {
    private struct Listener {
        var socket: Socket
        var watch: WatchID
        /// The ZAP domain of an endpoint with CURVE.
        var domain: String?
    }

    /// Messages taken from one socket before others and timers have their turn.
    private static let largestBatch = 64

    /// Input that was no request.
    public private(set) var malformedCount = 0
    /// Replies whose receiver was gone, or so slow that its queue is full; it asks again with the same id.
    public private(set) var droppedReplies = 0

    private let security: BusSecurity?
    private let onRequest: @ReactorActor (IncomingRequest) -> Void
    private var listeners: [Listener] = []

    /// Binds every endpoint or none. A socket file that a dead process left is replaced; new ones have mode 0600.
    /// - Throws: ``Messages/RequestError`` for an endpoint that cannot be bound, or that needs keys and has none.
    public init(endpoints: [String], security: BusSecurity?, onRequest: @escaping @ReactorActor (IncomingRequest) -> Void) throws {
        self.security = security
        self.onRequest = onRequest
        do {
            for (index, address) in endpoints.enumerated() {
                let socket = try Socket(.router, in: .reactor)
                let domain = try socket.listen(Endpoint(address), security)
                let watch = Reactor.shared.attach(socket) { [weak self] in self?.drain(index) }
                listeners.append(Listener(socket: socket, watch: watch, domain: domain))
            }
        } catch {
            close()
            throw error
        }
        keepAlive = self
    }

    /// The promise to live until ``close()``.
    private var keepAlive: RequestServer?

    /// Sends a reply made by ``ReplyFrame``. Never waits: a reply that cannot go at once is dropped and counted.
    public func send(_ frame: Data, to path: ReturnPath) {
        guard listeners.indices.contains(path.socket) else { return }
        let socket = listeners[path.socket].socket
        let outcome = path.hasDelimiter ? socket.send(path.identity, Data(), frame) : socket.send(path.identity, frame)
        if outcome != .sent { droppedReplies += 1 }
    }

    /// Replaces the allow-list: keys that left it are refused from their next request on.
    public func update(allow: AllowList) {
        for listener in listeners { listener.domain.map { Authenticator.shared.update($0, allow) } }
    }

    /// Stops listening; replies already sent still go out. Idempotent.
    public func close() {
        for listener in listeners {
            Reactor.shared.detach(listener.watch)
            listener.domain.map(Authenticator.shared.close)
        }
        listeners = []
        keepAlive = nil
    }

    private func drain(_ index: Int) {
        for _ in 0..<Self.largestBatch {
            // onRequest may have closed this server.
            guard listeners.indices.contains(index) else { return }
            let listener = listeners[index]
            guard let message = listener.socket.receive(limit: RequestReader.largestRequest, wantsUserID: listener.domain != nil) else { return }
            accept(message, index, listener.domain)
        }
    }

    private func accept(_ message: Socket.Message, _ index: Int, _ domain: String?) {
        guard let identity = message.frames.first else { return }
        let startsEmpty = message.frames.count > 1 && message.frames[1].isEmpty && !(message.count == 2 && message.isTooLarge)
        let path = ReturnPath(socket: index, identity: identity, hasDelimiter: startsEmpty)
        var reader = RequestReader()
        do {
            guard message.count == (startsEmpty ? 3 : 2) else {
                throw RequestError(
                    RequestErrorCode.malformed, "frames: one JSON frame is expected (after an optional empty one), \(message.count - 1) came", details: ["field": "frames"])
            }
            guard !message.isTooLarge else {
                throw RequestError(RequestErrorCode.tooLarge, "frame: a request has at most \(RequestReader.largestRequest) bytes", details: ["field": "frame"])
            }
            let frame = message.frames[startsEmpty ? 2 : 1]
            let (header, body) = try reader.read(frame)
            let caller = try caller(header, message.userID, domain)
            onRequest(IncomingRequest(header: header, frame: frame, bodyRange: body, caller: caller, returnPath: path, receivedAt: Clock.boottime()))
        } catch {
            let refusal = error as? RequestError ?? RequestError(RequestErrorCode.malformed, "\(error)")
            if refusal.code != RequestErrorCode.forbidden.rawValue { malformedCount += 1 }
            send(ReplyFrame.encode(id: reader.id, .refused(refusal)), to: path)
        }
    }

    private func caller(_ header: RequestHeader, _ userID: String?, _ domain: String?) throws -> Caller {
        var caller = LocalCaller.named(header.from)
        if let domain {
            guard let userID, let entry = Authenticator.shared.entry(named: userID, domain: domain) else {
                throw RequestError(RequestErrorCode.forbidden, "the sender's key is no longer allowed")
            }
            if entry.role == .service, let from = header.from, from != entry.name {
                throw RequestError(RequestErrorCode.forbidden, "from: the sender's key belongs to \(entry.name), not to \(from)", details: ["field": "from"])
            }
            caller = entry.caller
        }
        caller.from = header.from
        caller.lineage = header.lineage
        caller.term = header.term
        return caller
    }
}
