import Messages

/// The public keys that may talk to this cluster, and as whom. Two keys of one name are fine while they are rotated.
public struct AllowList: Codable, Sendable {
    public struct Entry: Codable, Hashable, Sendable {
        public var name: String
        public var role: Role
        /// For agents: the host whose messages this key may send.
        public var host: String?
        /// CURVE public key, Z85.
        public var curve: String
        /// Ed25519 public key, lower-case hexadecimal.
        public var signing: String

        public init(name: String, role: Role, host: String?, curve: String, signing: String) {
            self.name = name
            self.role = role
            self.host = host
            self.curve = curve
            self.signing = signing
        }

        var caller: Caller { Caller(role: role, host: host) }
    }

    public var entries: [Entry]

    public init(entries: [Entry]) { self.entries = entries }

    /// - Throws: ``Messages/RequestError`` if the file cannot be read. It holds no secrets: any mode will do.
    public static func load(_ path: String) throws -> AllowList { try JSON.decode(AllowList.self, PrivateFile.read(path, isSecret: false)) }

    /// Replaces the file at once.
    public func save(_ path: String) throws { try PrivateFile.write(JSON.encode(self), to: path) }

    /// Who the owner of a CURVE key (Z85) is; `nil`: nobody we know.
    public func caller(curveKey: String) -> Caller? { entry(curve: curveKey)?.caller }

    public func entry(curve key: String) -> Entry? { entries.first { $0.curve == key } }
    public func entry(signing key: String) -> Entry? { entries.first { $0.signing == key } }
    public func entry(name: String) -> Entry? { entries.first { $0.name == name } }
}
