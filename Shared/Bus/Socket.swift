import CLinux
import CZeroMQ
#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// One ZeroMQ socket. Not Sendable: it belongs to one isolation domain (the reactor, or the thread of a blocking client). Nothing here waits.
final class Socket {
    enum Kind { case router, dealer, publisher, subscriber, reply }

    /// One message as far as it is of use.
    struct Message {
        /// The first frames; a frame above the limit is empty.
        var frames: [Data] = []
        /// How many there were.
        var count = 0
        var isTooLarge = false
        /// What the ZAP handler called the sender; `nil` without CURVE.
        var userID: String?
    }

    /// Frames of a message that are kept; no message of ours has more than three.
    static let maximumFrames = 4

    private(set) var handle: UnsafeMutableRawPointer?
    /// It was used since ``readiness()`` was asked: its descriptor tells only what has come from outside since then.
    private(set) var wasUsed = true
    private let part = UnsafeMutablePointer<zmq_msg_t>.allocate(capacity: 1)

    init(_ kind: Kind, in context: SocketContext) throws {
        let type =
            switch kind {
            case .router: ZMQ_ROUTER
            case .dealer: ZMQ_DEALER
            case .publisher: ZMQ_XPUB
            case .subscriber: ZMQ_SUB
            case .reply: ZMQ_REP
            }
        handle = zmq_socket(context.pointer, type)
        zmq_msg_init(part)
        guard handle != nil else { throw Self.failure("a socket cannot be made") }
        try set(ZMQ_LINGER, 500)
        switch kind {
        case .router:
            try set(ZMQ_ROUTER_MANDATORY, 1)
            try asServer()
        case .publisher:
            try set(ZMQ_SNDHWM, 10_000)
            try asServer()
        case .dealer:
            // Nothing is queued for a peer that is not there: what its caller gave up must not arrive when it returns. Callers keep what could not be sent.
            try set(ZMQ_IMMEDIATE, 1)
            try asClient()
        case .subscriber:
            // What does not fit is lost, seen as a gap and made good by a snapshot.
            try set(ZMQ_RCVHWM, 10_000)
            try asClient()
        case .reply: break
        }
    }

    deinit {
        close()
        zmq_msg_close(part)
        part.deallocate()
    }

    /// Idempotent; what was sent goes out for at most LINGER.
    func close() {
        if let handle { zmq_close(handle) }
        handle = nil
    }

    private func asServer() throws {
        try set(ZMQ_BACKLOG, 1024)
        try set(ZMQ_HANDSHAKE_IVL, 5000)
        try setLarge(ZMQ_MAXMSGSIZE, 16 << 20)
    }

    private func asClient() throws {
        try set(ZMQ_RECONNECT_IVL, 100)
        try set(ZMQ_RECONNECT_IVL_MAX, 1000)
        // A peer that was off answers its first packet after it is back, not that after the kernel's next minute of patience.
        try set(ZMQ_CONNECT_TIMEOUT, 2000)
        try set(ZMQ_HANDSHAKE_IVL, 5000)
        try setLarge(ZMQ_MAXMSGSIZE, 64 << 20)
    }

    private func asNetworkPeer() throws {
        try set(ZMQ_HEARTBEAT_IVL, 1000)
        try set(ZMQ_HEARTBEAT_TIMEOUT, 3000)
        try set(ZMQ_HEARTBEAT_TTL, 3000)
    }

    // MARK: Options

    func set(_ option: Int32, _ value: Int32) throws {
        var value = value
        guard zmq_setsockopt(handle, option, &value, MemoryLayout<Int32>.size) == 0 else { throw Self.failure("socket option \(option)") }
    }

    private func setLarge(_ option: Int32, _ value: Int64) throws {
        var value = value
        guard zmq_setsockopt(handle, option, &value, MemoryLayout<Int64>.size) == 0 else { throw Self.failure("socket option \(option)") }
    }

    func set(_ option: Int32, _ value: String) throws {
        guard zmq_setsockopt(handle, option, value, value.utf8.count) == 0 else { throw Self.failure("socket option \(option)") }
    }

    func subscribe(_ prefix: String) throws { try set(ZMQ_SUBSCRIBE, prefix) }

    // MARK: Endpoints

    /// - Parameter domain: the ZAP domain to which the peers must be admitted; `nil` without CURVE.
    func bind(_ endpoint: Endpoint, keys: KeyFile?, domain: String?) throws {
        if endpoint.isNetwork { try asNetworkPeer() }
        if let keys, let domain {
            try set(ZMQ_CURVE_SERVER, 1)
            try set(ZMQ_CURVE_SECRETKEY, keys.curveSecret)
            try set(ZMQ_ZAP_DOMAIN, domain)
        }
        if let path = endpoint.path { try set(ZMQ_USE_FD, endpoint.listen(at: path)) }
        guard zmq_bind(handle, endpoint.address) == 0 else { throw Self.failure("cannot bind \(endpoint.address)") }
    }

    func connect(_ endpoint: Endpoint, serverKey: String?, keys: KeyFile?) throws {
        if endpoint.isNetwork { try asNetworkPeer() }
        if let serverKey {
            guard let keys else { throw RequestError(RequestErrorCode.invalid, "\(endpoint.address) needs a key of ours, and there is none") }
            try set(ZMQ_CURVE_SERVERKEY, serverKey)
            try set(ZMQ_CURVE_PUBLICKEY, keys.curvePublic)
            try set(ZMQ_CURVE_SECRETKEY, keys.curveSecret)
        }
        guard zmq_connect(handle, endpoint.address) == 0 else { throw Self.failure("cannot connect \(endpoint.address)") }
    }

    // MARK: Messages

    enum Outcome { case sent, full, unreachable }

    /// Sends all frames or none, without waiting.
    func send(_ frames: Data...) -> Outcome {
        wasUsed = true
        for (index, frame) in frames.enumerated() {
            let flags = ZMQ_DONTWAIT | (index < frames.count - 1 ? ZMQ_SNDMORE : 0)
            let code = frame.withUnsafeBytes { bytes in
                while true {
                    let code = zmq_send(handle, bytes.baseAddress, bytes.count, flags)
                    if code >= 0 || zmq_errno() != EINTR { return code }
                }
            }
            guard code >= 0 else { return zmq_errno() == EAGAIN ? .full : .unreachable }
        }
        return .sent
    }

    /// The next message, if one has arrived.
    /// - Parameters:
    ///   - maximum: how many frames to keep.
    ///   - limit: bytes above which a frame is not kept.
    func receive(keeping maximum: Int = Socket.maximumFrames, limit: Int = .max, wantsUserID: Bool = false) -> Message? {
        var message = Message()
        wasUsed = true
        while true {
            guard zmq_msg_recv(part, handle, ZMQ_DONTWAIT) >= 0 else {
                if zmq_errno() == EINTR { continue }
                return nil
            }
            let size = zmq_msg_size(part)
            message.count += 1
            if size > limit { message.isTooLarge = true }
            if message.count <= maximum {
                if size > 0, size <= limit, let bytes = zmq_msg_data(part) {
                    message.frames.append(Data(bytes: bytes, count: size))
                } else {
                    message.frames.append(Data())
                }
            }
            if wantsUserID, message.userID == nil, let name = zmq_msg_gets(part, "User-Id") { message.userID = String(cString: name) }
            if zmq_msg_more(part) == 0 { return message }
        }
    }

    /// Becomes readable when there may be something to ask ``readiness()`` for; -1 once it is closed.
    var descriptor: Int32 { option(ZMQ_FD) ?? -1 }

    /// What can be done with it: ZMQ_POLLIN, ZMQ_POLLOUT, both or nothing.
    func readiness() -> Int16 {
        wasUsed = false
        return Int16(truncatingIfNeeded: option(ZMQ_EVENTS) ?? 0)
    }

    private func option(_ name: Int32) -> Int32? {
        var value: Int32 = 0
        var size = MemoryLayout<Int32>.size
        while zmq_getsockopt(handle, name, &value, &size) != 0 {
            // What a signal interrupts tells nothing, and its readiness would not be asked for again.
            guard zmq_errno() == EINTR else { return nil }
        }
        return value
    }

    /// Waits on the calling thread until a message can be read (or sent, if wanted); for sockets outside the reactor.
    func wait(atMost duration: Duration, orToSend: Bool = false) {
        var item = zmq_pollitem_t(socket: handle, fd: 0, events: Int16(ZMQ_POLLIN) | (orToSend ? Int16(ZMQ_POLLOUT) : 0), revents: 0)
        zmq_poll(&item, 1, Int((max(duration, .zero).nanoseconds + 999_999) / 1_000_000))
    }

    static func failure(_ what: String) -> RequestError {
        RequestError(RequestErrorCode.invalid, "\(what): \(String(cString: zmq_strerror(zmq_errno())))")
    }
}
