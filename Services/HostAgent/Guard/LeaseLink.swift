import CLinux
import Glibc
import Messages

/// The connection to this host's lease-service: made again, at most five times a second, whenever it breaks.
struct LeaseLink {
    /// -1: not connected.
    private(set) var descriptor: Int32 = -1
    private var triedAt: Int64 = 0
    private static let pause: Int64 = 200_000_000

    mutating func reconnect(to path: String, at now: Int64) -> Bool {
        guard triedAt == 0 || now - triedAt >= Self.pause else { return false }
        triedAt = now
        guard let connected = Packet.connect(to: path) else { return false }
        guard Packet.isTrusted(connected) else {
            close(connected)
            return false
        }
        descriptor = connected
        return true
    }

    /// A message that cannot be sent breaks the connection: what follows is a new one, with adoption.
    mutating func send(_ message: GuardMessage) {
        if !Packet.send(message, to: descriptor) { disconnect() }
    }

    mutating func receive() -> Packet.Received {
        guard descriptor >= 0 else { return .none }
        let received = Packet.receive(from: descriptor)
        if case .broken = received { disconnect() }
        return received
    }

    private mutating func disconnect() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }
}
