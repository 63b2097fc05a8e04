import CZeroMQ
import Foundation

/// A bare libzmq socket, like that of a client in another language.
final class RawSocket {
    private let context = zmq_ctx_new()
    private let socket: UnsafeMutableRawPointer?

    init(_ type: Int32, _ endpoint: String, binds: Bool = false) {
        socket = zmq_socket(context, type)
        var linger: Int32 = 0
        zmq_setsockopt(socket, ZMQ_LINGER, &linger, 4)
        var timeout: Int32 = 10_000
        zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, 4)
        _ = binds ? zmq_bind(socket, endpoint) : zmq_connect(socket, endpoint)
    }

    deinit {
        zmq_close(socket)
        zmq_ctx_term(context)
    }

    func send(_ frames: [Data]) {
        for (index, frame) in frames.enumerated() {
            _ = frame.withUnsafeBytes { zmq_send(socket, $0.baseAddress, $0.count, index < frames.count - 1 ? ZMQ_SNDMORE : 0) }
        }
    }

    /// The frames of the next message; empty if none comes within ten seconds.
    func receive() -> [Data] {
        var frames: [Data] = []
        var part = zmq_msg_t()
        zmq_msg_init(&part)
        defer { zmq_msg_close(&part) }
        repeat {
            guard zmq_msg_recv(&part, socket, 0) >= 0 else { return frames }
            frames.append(zmq_msg_size(&part) == 0 ? Data() : Data(bytes: zmq_msg_data(&part), count: zmq_msg_size(&part)))
        } while zmq_msg_more(&part) != 0
        return frames
    }
}
