import CLinux
import Glibc
import Messages

/// Where the agent asks for the status, and to stop. Whoever is connected also hears every change of state.
struct ControlSocket {
    private var listener: Int32 = -1
    private var clients: [Int32] = []
    private static let maximumClients = 8

    var descriptors: [Int32] { listener >= 0 ? [listener] + clients : [] }

    mutating func listen(at path: String) -> Bool {
        guard let listening = Packet.listen(at: path) else { return false }
        listener = listening
        return true
    }

    /// Accepts who waits and returns what was said; the oldest client gives way to a ninth.
    mutating func received() -> [(client: Int32, message: GuardMessage)] {
        while let client = Packet.accept(from: listener) {
            if clients.count == Self.maximumClients { close(clients.removeFirst()) }
            clients.append(client)
        }
        var messages: [(client: Int32, message: GuardMessage)] = []
        for client in clients {
            switch Packet.receive(from: client) {
            case .message(let message): messages.append((client, message))
            case .none: break
            case .broken: drop(client)
            }
        }
        return messages
    }

    /// A client that does not read is dropped: the guard never waits for one.
    mutating func answer(_ client: Int32, _ message: GuardMessage) {
        if clients.contains(client), !Packet.send(message, to: client) { drop(client) }
    }

    mutating func tell(_ message: GuardMessage) {
        for client in clients { answer(client, message) }
    }

    private mutating func drop(_ client: Int32) {
        close(client)
        clients.removeAll { $0 == client }
    }
}
