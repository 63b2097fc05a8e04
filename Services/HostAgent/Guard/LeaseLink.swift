import CLinux
import Glibc
import Messages

/// The connection to this host's lease-service.
struct LeaseLink {
    /// -1: not connected.
    private(set) var descriptor: Int32 = -1

    mutating func connect(to path: String) -> Bool {
        guard let connected = Packet.connect(to: path) else { return false }
        guard Packet.isTrusted(connected) else {
            close(connected)
            return false
        }
        descriptor = connected
        return true
    }

    /// A message that cannot be sent breaks the connection: what follows is a new one, with adoption.
    mutating func send(_ message: GuardMessage) -> Bool {
        let isSent = Packet.send(message, to: descriptor)
        if !isSent { disconnect() }
        return isSent
    }

    mutating func receive() -> Packet.Received {
        let received = Packet.receive(from: descriptor)
        if case .broken = received { disconnect() }
        return received
    }

    private mutating func disconnect() {
        close(descriptor)
        descriptor = -1
    }
}
