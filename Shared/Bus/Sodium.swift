import CSodium
import Messages

/// libsodium, made ready once.
enum Sodium {
    private static let code = sodium_init()

    static func start() throws {
        guard code >= 0 else { throw RequestError(RequestErrorCode.invalid, "libsodium cannot start: no randomness") }
    }
}
