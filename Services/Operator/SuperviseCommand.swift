import ArgumentParser
import Messages

/// What `bulwark up` leaves running.
struct SuperviseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "supervise", abstract: "Run the manager services and BMCs of a local cluster (what `up` leaves running).")

    @OptionGroup var options: GlobalOptions

    func run() throws { try Supervisor(try Instance.load(options)).run() }
}
