import CSodium
import CZeroMQ
import Messages

/// The secrets of one process: a CURVE key pair for its sockets and an Ed25519 key pair for its proofs. On disk a JSON file with mode 0600.
public struct KeyFile: Codable, Sendable {
    /// The process: a manager service by its name (`fencing-service`), others as they like (`host1/host-agent`).
    public var name: String
    public var role: Role
    /// For agents: their host.
    public var host: String?
    /// Z85, 40 characters.
    public var curvePublic: String
    public var curveSecret: String
    /// Lower-case hexadecimal: 32 bytes, and libsodium's 64.
    public var signingPublic: String
    public var signingSecret: String

    /// Makes new key pairs.
    public static func generate(name: String, role: Role, host: String?) throws -> KeyFile {
        try Sodium.start()
        var curve = (public: [CChar](repeating: 0, count: 41), secret: [CChar](repeating: 0, count: 41))
        guard zmq_curve_keypair(&curve.public, &curve.secret) == 0 else { throw Socket.failure("no CURVE key pair can be made") }
        var signing = (
            public: [UInt8](repeating: 0, count: Int(crypto_sign_ed25519_PUBLICKEYBYTES)), secret: [UInt8](repeating: 0, count: Int(crypto_sign_ed25519_SECRETKEYBYTES))
        )
        crypto_sign_ed25519_keypair(&signing.public, &signing.secret)
        func text(_ key: [CChar]) -> String { String(decoding: key.prefix(40).map(UInt8.init(bitPattern:)), as: UTF8.self) }
        return KeyFile(
            name: name, role: role, host: host, curvePublic: text(curve.public), curveSecret: text(curve.secret),
            signingPublic: Hexadecimal.text(signing.public), signingSecret: Hexadecimal.text(signing.secret))
    }

    /// - Throws: ``Messages/RequestError`` if the file cannot be read or somebody else could read it, too.
    public static func load(_ path: String) throws -> KeyFile { try JSON.decode(KeyFile.self, PrivateFile.read(path, isSecret: true)) }

    /// Replaces the file at once, with mode 0600.
    public func save(_ path: String) throws { try PrivateFile.write(JSON.encode(self), to: path) }

    /// This key as it stands in an allow-list: without its secrets.
    public var entry: AllowList.Entry { AllowList.Entry(name: name, role: role, host: host, curve: curvePublic, signing: signingPublic) }
}
