import CZeroMQ
import Messages

/// A libzmq context: its I/O thread and its sockets' limits.
///
/// The reactor has one, the blocking sockets of other threads share another, so that ending one never waits for the other.
///
/// Unchecked: libzmq contexts are thread-safe by contract, and the pointer is never changed.
struct SocketContext: @unchecked Sendable {
    static let reactor = SocketContext()
    static let blocking = SocketContext()

    let pointer: UnsafeMutableRawPointer?

    private init() {
        pointer = zmq_ctx_new()
        // libzmq's own default (1023) is too few where many hosts are simulated in one process.
        zmq_ctx_set(pointer, ZMQ_MAX_SOCKETS, 8192)
    }

    /// Waits for the closed sockets' messages to leave (LINGER, at most half a second). Every socket of the context must be closed.
    func terminate() { zmq_ctx_term(pointer) }
}
