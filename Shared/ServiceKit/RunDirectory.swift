import CLinux
import Foundation
import Messages

/// The run directory holds what is true until the machine's next boot: which guests run here, who holds which lease. Whoever finds it emptied within one boot knows nothing of them any more.
///
/// A service leaves a mark there, and the same mark with the boot id in its state directory:
///
/// | state directory says  | run directory holds | then |
/// |-----------------------|---------------------|------|
/// | nothing, or another boot | –                | a new boot, or a new host: both are marked |
/// | this boot             | the same mark       | the service goes on |
/// | this boot             | none, or another    | refused: what was written there is lost |
public enum RunDirectory {
    /// Marks the run directory, or refuses one that was emptied since this machine's boot.
    ///
    /// - Parameters:
    ///   - state: the service's own state directory, which survives boots.
    ///   - bootID: changes with each boot, never before.
    /// - Throws: `config.run-lost`; or why a mark cannot be written.
    public static func check(_ run: String, service: String, state: String, bootID: String) throws {
        let (known, mark) = ("\(state)/boot", "\(run)/\(service).boot")
        let said = text(known)?.split(separator: " ").map(String.init) ?? []
        guard said.first == bootID else {
            let fresh = UUID().uuidString.lowercased()
            try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
            // In this order: whoever is killed between finds another boot than this one again.
            try Data(fresh.utf8).write(to: URL(fileURLWithPath: mark))
            return try Data("\(bootID) \(fresh)".utf8).write(to: URL(fileURLWithPath: known), options: .atomic)
        }
        guard said.count != 2 || text(mark) != said[1] else { return }
        throw RequestError(
            code: "config.run-lost",
            message: "the run directory \(run) was emptied since this machine's boot (\(mark) is missing or another one): what runs here and which leases it holds was written there. "
                + "Keep that directory until the machine's next boot. Restart the machine, or have it fenced with bulwark fence now: nothing else is known to end what runs here")
    }

    private static func text(_ path: String) -> String? { FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } }
}
