import CLinux
import CSodium
import CZeroMQ
#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Glibc
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

enum Sodium {
    private static let code = sodium_init()

    static func start() throws {
        guard code >= 0 else { throw RequestError(RequestErrorCode.invalid, "libsodium cannot start: no randomness") }
    }
}

enum Hexadecimal {
    static func text(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    /// `nil` unless the text is exactly `count` bytes in hexadecimal.
    static func bytes(_ text: String, count: Int) -> [UInt8]? {
        let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
        guard digits.count == 2 * count, text.utf8.count == digits.count else { return nil }
        return (0..<count).map { UInt8(digits[2 * $0] << 4 | digits[2 * $0 + 1]) }
    }
}

/// Files for the eyes of their owner, never seen half written.
enum PrivateFile {
    static func write(_ content: Data, to path: String) throws {
        let temporary = "\(path).\(getpid()).new"
        unlink(temporary)
        let file = cl_open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("cannot create", temporary) }
        defer { close(file) }
        let written = content.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(file, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
        guard written, fchmod(file, 0o600) == 0, fsync(file) == 0, rename(temporary, path) == 0 else {
            let error = failure("cannot write", path)
            unlink(temporary)
            throw error
        }
    }

    static func read(_ path: String, isSecret: Bool) throws -> Data {
        let file = cl_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard file >= 0 else { throw failure("cannot open", path) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw failure("cannot look at", path) }
        let mode = status.st_mode & 0o7777
        guard !isSecret || mode == 0o600 else {
            throw RequestError(RequestErrorCode.invalid, "\(path) holds secrets and has mode 0\(String(mode, radix: 8)); it must be 0600: chmod 0600 \(path)")
        }
        var content = Data()
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure("cannot read", path) }
            if count == 0 { return content }
            content.append(contentsOf: buffer[..<count])
        }
    }

    private static func failure(_ what: String, _ path: String) -> RequestError {
        RequestError(RequestErrorCode.invalid, "\(what) \(path): \(String(cString: strerror(errno)))")
    }
}
