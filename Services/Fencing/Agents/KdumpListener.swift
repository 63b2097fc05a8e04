import Bus
import Glibc
import Messages

/// Hears what the crash kernels of hosts send while they write a dump (`fence_kdump_send`): UDP, eight bytes, from anybody.
@ReactorActor
public final class KdumpListener {
    /// Magic 0x1B302A40 and version 1, each little endian.
    public nonisolated static let message: [UInt8] = [0x40, 0x2A, 0x30, 0x1B, 1, 0, 0, 0]

    /// Read in one turn, some milliseconds of work; then it lets the kernel drop for a moment what a flood brings.
    private static let batch = 1024

    private let descriptor: Int32
    private let onMessage: @ReactorActor (String) -> Void
    private var watch: WatchID?
    private var isClosed = false

    /// - Parameters:
    ///   - address: `10.77.0.250:7410`, `0.0.0.0:7410`, `[::]:7410`.
    ///   - onMessage: told the address that each message came from, as ``canonical(_:)`` writes it.
    /// - Throws: `RequestError` `config.invalid`.
    public init(address: String, onMessage: @escaping @ReactorActor (String) -> Void) throws(RequestError) {
        guard let (host, port) = Self.place(address) else { throw Self.problem(address, "is no IP address and port, such as 0.0.0.0:7410") }
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE
        var found: UnsafeMutablePointer<addrinfo>?
        defer { if found != nil { freeaddrinfo(found) } }
        guard getaddrinfo(host, port, &hints, &found) == 0, let place = found?.pointee else { throw Self.problem(address, "is no IP address and port, such as 0.0.0.0:7410") }
        descriptor = socket(place.ai_family, Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        self.onMessage = onMessage
        // Whatever bindv6only says, `[::]` hears both kinds.
        var only: Int32 = 0
        if place.ai_family == AF_INET6 { setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &only, socklen_t(MemoryLayout<Int32>.size)) }
        guard descriptor >= 0, bind(descriptor, place.ai_addr, place.ai_addrlen) == 0 else {
            let reason = String(cString: strerror(errno))
            if descriptor >= 0 { Glibc.close(descriptor) }
            throw Self.problem(address, "cannot be listened to: \(reason)")
        }
        listen()
    }

    public func close() {
        guard !isClosed else { return }
        isClosed = true
        if let watch { Reactor.shared.unwatch(watch) }
        watch = nil
        Glibc.close(descriptor)
    }

    /// Where it listens: the port that the kernel chose if it was told 0.
    public var port: UInt16 {
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        _ = withUnsafeMutablePointer(to: &name) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) } }
        // The port is at the same place in both families.
        return withUnsafePointer(to: &name) { $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) } }
    }

    private func listen() {
        watch = Reactor.shared.watch(fileDescriptor: descriptor, events: Int16(POLLIN)) { [weak self] _ in self?.read() }
    }

    private func read() {
        for _ in 0..<Self.batch {
            var bytes = [UInt8](repeating: 0, count: Self.message.count + 1)
            var name = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let size = withUnsafeMutablePointer(to: &name) { name in
                name.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &bytes, bytes.count, 0, $0, &length) }
            }
            // Nothing is left; or an error of an earlier datagram, which the next turn does not see again.
            guard size >= 0 else { return }
            guard bytes.prefix(size).elementsEqual(Self.message), let address = Self.address(&name, length) else { continue }
            onMessage(address)
        }
        guard let watch else { return }
        Reactor.shared.unwatch(watch)
        self.watch = nil
        _ = Reactor.shared.after(.milliseconds(20)) { [weak self] in if let self, !self.isClosed { self.listen() } }
    }

    private static func address(_ name: inout sockaddr_storage, _ length: socklen_t) -> String? {
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let result = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getnameinfo($0, length, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) }
        }
        guard result == 0 else { return nil }
        return canonical(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    /// The one way in which an IP address is written here; `nil`: it is none.
    public nonisolated static func canonical(_ address: String) -> String? {
        // A link-local address comes with its interface.
        let plain = String(address.prefix { $0 != "%" })
        var four = in_addr()
        var six = in6_addr()
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        func written(_ family: Int32, _ value: UnsafeRawPointer) -> String? {
            guard inet_ntop(family, value, &text, socklen_t(text.count)) != nil else { return nil }
            return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        if inet_pton(AF_INET, plain, &four) == 1 { return written(AF_INET, &four) }
        guard inet_pton(AF_INET6, plain, &six) == 1, let found = written(AF_INET6, &six) else { return nil }
        // A socket of both families says so of the older one.
        return found.hasPrefix("::ffff:") && found.contains(".") ? String(found.dropFirst(7)) : found
    }

    /// `nil`: it is not an IP address and a port.
    public nonisolated static func place(_ address: String) -> (host: String, port: String)? {
        guard let colon = address.lastIndex(of: ":") else { return nil }
        let (host, port) = (address[..<colon].filter { $0 != "[" && $0 != "]" }, String(address[address.index(after: colon)...]))
        return canonical(host) == nil || UInt16(port) == nil ? nil : (host, port)
    }

    private static func problem(_ address: String, _ why: String) -> RequestError {
        RequestError(code: "config.invalid", message: "fence.kdumpListen: \(address) \(why)")
    }
}
