import ArgumentParser
import Messages

/// `bulwark health SERVICE`: for health checks.
struct HealthCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "health", abstract: "Whether one process answers, and what it complains about.",
        discussion: """
            Exit status 0 if it answers: a process that says what is wrong with its surroundings gets no better by being restarted.
            With --strict its complaints count too.
            """)
    @Argument(help: "Process, such as fencing-service or host1/host-agent.") var service: String
    @Flag(help: "Fail if it answers with problems.") var strict = false
    @Option(help: "Seconds to wait for the answer.") var timeout: Int64 = 2
    @OptionGroup var options: GlobalOptions

    func validate() throws {
        guard timeout > 0 else { throw ValidationError("--timeout must be at least 1") }
    }

    func run() throws {
        let cluster = try options.connect()
        let reply = try cluster.ask(try cluster.process(service), "health", timeout: .seconds(timeout))
        let health = try reply.decoded(as: Health.self)
        if strict, health.status != .ok { throw OperatorError.serviceDegraded.error("\(service): \(health.problems.joined(separator: "; "))") }
        try options.show(reply) {
            "\(service) \(health.status.rawValue), version \(health.version), pid \(health.pid)" + health.problems.map { "\n  \($0)" }.joined()
        }
    }
}
