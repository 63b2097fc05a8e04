public import Bus
public import Messages

/// How one request type of a service is handled.
public struct Route<E: Engine>: Sendable {
    enum Handling: Sendable {
        case input(@Sendable @ReactorActor (IncomingRequest) throws -> E.Input)
        case reading(@Sendable @ReactorActor (E, IncomingRequest) throws -> Reply)
    }

    let type: String
    let roles: Set<Role>
    let handling: Handling

    /// A request that becomes a journaled input; the engine answers with `.reply(to: id, ...)`, now or later.
    ///
    /// - Parameter input: makes the input; throws `RequestError` for a body that cannot be used.
    public init(_ type: String, _ roles: Set<Role>, input: @escaping @Sendable @ReactorActor (IncomingRequest) throws -> E.Input) {
        self.type = type
        self.roles = roles
        handling = .input(input)
    }

    /// A request that only reads the engine. Its reply is held back until all that it shows is durable (S15).
    public init(reading type: String, _ roles: Set<Role> = [.service, .operator_, .observer, .agent], _ read: @escaping @Sendable @ReactorActor (E, IncomingRequest) throws -> Reply) {
        self.type = type
        self.roles = roles
        handling = .reading(read)
    }
}
