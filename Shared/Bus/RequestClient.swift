#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// Asks one process, many requests at a time.
///
/// A request is sent as soon as the process can be reached and again, under the same id with the same bytes, every `resend` until its time is over. Then its
/// outcome is *unknown*: the process may have done it. A late reply is dropped; to learn the outcome, ask again with the same id.
@ReactorActor
public final class RequestClient {
    public typealias Completion = @ReactorActor (Result<Data, RequestError>) -> Void

    private struct Pending {
        var frame: Data
        var deadline: Instant
        var resend: Duration
        var timer: TimerID
        var isUnsent = false
        var completion: Completion
    }

    private static let largestBatch = 64

    /// Replies that nobody waits for any more, and input that is no reply.
    public private(set) var strayReplies = 0

    private let endpoint: String
    private let from: String?
    private let lineage: String?
    private let term: UInt64?
    private let socket: Socket
    private var watch: WatchID?
    private var pending: [RequestID: Pending] = [:]
    /// Requests that could not be sent when their turn came, in order; the socket is watched for room while there are any.
    private var unsent: [RequestID] = []

    /// Connects in the background and again whenever the connection is lost (after 100 ms to 1 s). It lives until ``close()``.
    /// - Parameters:
    ///   - serverKey: the process's CURVE key (Z85); `nil` for ipc:// and loopback without keys.
    ///   - from: the name of this service, its lineage and term: needed by agents and lease-services of managers (S16).
    public init(endpoint: String, serverKey: String?, security: BusSecurity?, from: String?, lineage: String?, term: UInt64?) throws {
        self.endpoint = endpoint
        self.from = from
        self.lineage = lineage
        self.term = term
        socket = try Socket(.dealer, in: .reactor)
        try socket.connect(Endpoint(endpoint), serverKey: serverKey, keys: security?.keys)
        watch = Reactor.shared.attach(socket) { [self] in turn() }
    }

    /// Asks. The completion is called exactly once, never before this returns.
    ///
    /// - Parameters:
    ///   - id: `nil`: a new one. An id that is outstanding already is refused.
    ///   - target: the boot id or epoch that must be the receiver's.
    ///   - timeout: how long to wait for the reply; the receiver must begin within the same time.
    ///   - resend: how long to wait before asking again; 1 s if `nil`.
    ///   - completion: the reply frame of a success; the error of a refusal; `outcome.unknown` if no reply came in time.
    public func request(
        _ type: String, _ body: any Encodable & Sendable, id: RequestID? = nil, target: String? = nil, timeout: Duration, resend: Duration? = nil,
        completion: @escaping Completion
    ) {
        do {
            request(type, bodyJSON: try JSON.encode(body), id: id, target: target, timeout: timeout, resend: resend, completion: completion)
        } catch {
            fail(completion, RequestError(RequestErrorCode.invalid, "the body of \(type) cannot be written as JSON: \(error)"))
        }
    }

    /// Asks with a body that is JSON already: an object.
    public func request(
        _ type: String, bodyJSON: Data, id: RequestID? = nil, target: String? = nil, timeout: Duration, resend: Duration? = nil,
        completion: @escaping Completion
    ) {
        let id = id ?? RandomID.make()
        let header = RequestHeader(
            id: id, type: type, timeout: max(timeout.milliseconds, 1), target: target, from: from, lineage: lineage, term: term)
        let frame = RequestFrame.encode(header, body: bodyJSON)
        guard watch != nil else { return fail(completion, unknown("the client is closed")) }
        guard pending[id] == nil else { return fail(completion, RequestError(RequestErrorCode.conflict, "request \(id) is outstanding already")) }
        guard frame.count <= RequestReader.largestRequest else {
            return fail(completion, RequestError(RequestErrorCode.tooLarge, "\(type) has \(frame.count) bytes, \(RequestReader.largestRequest) are allowed"))
        }
        let resend = max(resend ?? .seconds(1), .milliseconds(1))
        let timer = Reactor.shared.after(min(timeout, resend)) { [self] in onTimer(id) }
        // Registered before it is sent: a reply always finds its waiter.
        pending[id] = Pending(frame: frame, deadline: Clock.boottime() + timeout, resend: resend, timer: timer, completion: completion)
        transmit(id)
    }

    /// Ends all outstanding requests with `outcome.unknown`. Idempotent.
    public func close() {
        guard let watch else { return }
        self.watch = nil
        Reactor.shared.detach(watch)
        let open = pending.sorted { $0.key < $1.key }
        pending = [:]
        unsent = []
        for (_, request) in open {
            Reactor.shared.cancel(request.timer)
            fail(request.completion, unknown("the client was closed"))
        }
    }

    private func unknown(_ why: String) -> RequestError { RequestError(RequestErrorCode.unknownOutcome, "no reply of \(endpoint): \(why); it may have been done") }

    private func fail(_ completion: @escaping Completion, _ error: RequestError) { Reactor.shared.post { completion(.failure(error)) } }

    private func forget(_ id: RequestID, _ request: Pending) {
        pending[id] = nil
        Reactor.shared.cancel(request.timer)
        guard request.isUnsent else { return }
        unsent.removeAll { $0 == id }
        setWantsToSend()
    }

    private func transmit(_ id: RequestID) {
        guard let frame = pending[id]?.frame else { return }
        guard unsent.isEmpty, socket.send(frame) == .sent else {
            guard pending[id]?.isUnsent == false else { return }
            pending[id]?.isUnsent = true
            unsent.append(id)
            return setWantsToSend()
        }
    }

    private func setWantsToSend() { watch.map { Reactor.shared.setWantsToSend($0, !unsent.isEmpty) } }

    private func onTimer(_ id: RequestID) {
        guard let request = pending[id] else { return }
        let left = request.deadline - Clock.boottime()
        guard left > .zero else {
            forget(id, request)
            return request.completion(.failure(unknown("none within the timeout")))
        }
        pending[id]?.timer = Reactor.shared.after(min(left, request.resend)) { [self] in onTimer(id) }
        transmit(id)
    }

    private func turn() {
        if !unsent.isEmpty { flush() }
        for _ in 0..<Self.largestBatch {
            // A completion may have closed this client.
            guard watch != nil, let message = socket.receive() else { return }
            accept(message)
        }
    }

    private func flush() {
        var sent = 0
        for id in unsent {
            if let frame = pending[id]?.frame, socket.send(frame) != .sent { break }
            pending[id]?.isUnsent = false
            sent += 1
        }
        unsent.removeFirst(sent)
        setWantsToSend()
    }

    private func accept(_ message: Socket.Message) {
        guard let frame = message.frames.last, message.count <= 2,
            let header = try? ReplyFrame.decodeHeader(frame), let id = header.id, let request = pending[id]
        else { return strayReplies += 1 }
        forget(id, request)
        request.completion(header.error.map(Result.failure) ?? .success(frame))
    }
}
