import Bus
import HostAgentEngine
import Logging
import Messages
import ServiceKit

/// The commands that check and restart this host's toolstack, as configured.
struct ToolstackCommands: Sendable {
    let plan: Toolstack.Plan
    /// Program and arguments.
    let check: [String]
    /// Empty: there is none.
    let restart: [String]
    /// Told to both as `BULWARK_HOST`.
    let host: String

    /// `nil`: it is not checked.
    init?(_ configuration: Configuration) {
        check = Self.words(configuration, "toolstack.check")
        guard !check.isEmpty else { return nil }
        restart = Self.words(configuration, "toolstack.restart")
        host = configuration.string("host.name")
        plan = Toolstack.Plan(
            every: configuration.duration("toolstack.every"), timeout: configuration.duration("toolstack.timeout"),
            restarts: restart.isEmpty ? 0 : configuration.integer("toolstack.restarts"), restartTimeout: configuration.duration("toolstack.restartTimeout"),
            pause: configuration.duration("toolstack.pause"))
    }

    private static func words(_ configuration: Configuration, _ key: String) -> [String] { configuration.string(key).split(separator: " ").map(String.init) }

    static func check(_ configuration: Configuration) throws(RequestError) {
        func refuse(_ message: String) -> RequestError { RequestError(code: "config.invalid", message: message) }
        for key in ["toolstack.check", "toolstack.restart"] {
            guard words(configuration, key).first?.hasPrefix("/") ?? true else {
                throw refuse("\(key) is \"\(configuration.string(key))\": it must begin with the absolute path of a program; its arguments follow, parted by blanks, without a shell")
            }
        }
        if words(configuration, "toolstack.check").isEmpty, !words(configuration, "toolstack.restart").isEmpty {
            throw refuse("toolstack.restart is given and toolstack.check is not: nothing would say when to restart")
        }
        for key in ["toolstack.every", "toolstack.timeout", "toolstack.restartTimeout", "toolstack.pause"] where configuration.duration(key) < .milliseconds(100) {
            throw refuse("\(key) is \(configuration.duration(key).seconds) s, it must be at least 0.1 s")
        }
        guard (0...100).contains(configuration.integer("toolstack.restarts")) else {
            throw refuse("toolstack.restarts is \(configuration.integer("toolstack.restarts")), it must be 0...100")
        }
    }

    func child(_ words: [String], deadline: Duration) -> ChildProcess? {
        guard let program = words.first else { return nil }
        var child = ChildProcess(program, Array(words.dropFirst()), deadline: deadline)
        child.environment["BULWARK_HOST"] = host
        child.outputLimit = 4096
        return child
    }
}

/// Runs the commands for the ``Toolstack``, each on a thread of its own: neither heartbeats nor guards wait for them.
@ReactorActor
final class ToolstackKeeper {
    var tell: (@ReactorActor (ToolstackReport?) -> Void)?
    private let commands: ToolstackCommands
    private let logger: Logger
    private var toolstack: Toolstack
    private let alarm = Alarm()

    init(_ commands: ToolstackCommands, _ logger: Logger) {
        self.commands = commands
        self.logger = logger
        toolstack = Toolstack(commands.plan)
    }

    func begin(last: ToolstackReport?) { handle(.begin(last: last)) }

    func restart() { run(commands.restart, deadline: commands.plan.restartTimeout, quietly: false) { .restarted(failure: $0) } }

    private func handle(_ input: Toolstack.Input) {
        for step in toolstack.handle(input, at: Clock.boottime()) {
            switch step {
            case .check: run(commands.check, deadline: commands.plan.timeout, quietly: true) { .checked(failure: $0) }
            case .tell(let report): tell?(report)
            }
        }
        alarm.set(toolstack.nextWake) { [self] in handle(.wake) }
    }

    private func run(_ words: [String], deadline: Duration, quietly: Bool, _ input: @escaping @Sendable (String?) -> Toolstack.Input) {
        guard let child = commands.child(words, deadline: deadline) else { return handle(input("there is no command")) }
        let line = words.joined(separator: " ")
        Blocking.run("toolstack") {
            child.run()
        } then: { [self] outcome in
            let failure = Self.failure(of: outcome, deadline).map { "\(line): \($0)" }
            // What checks say is in the journal, whenever it changes anything.
            if !quietly { logger.notice("\(failure ?? "\(line): done after \(outcome.duration.milliseconds) ms")") }
            handle(input(failure))
        }
    }

    /// Status and output, on one line; `nil`: it succeeded.
    private static func failure(of outcome: ChildProcess.Outcome, _ deadline: Duration) -> String? {
        let output = (outcome.errorOutput + " " + outcome.output).split(whereSeparator: \.isWhitespace).joined(separator: " ")
        let said = output.isEmpty ? "" : ": \(output.prefix(400))"
        switch outcome.end {
        case .exited(0): return nil
        case .exited(let status): return "exit status \(status) after \(outcome.duration.milliseconds) ms\(said)"
        case .signalled(let signal): return "ended by signal \(signal) after \(outcome.duration.milliseconds) ms\(said)"
        case .timedOut: return "no end after \(deadline.milliseconds) ms, it was killed\(said)"
        case .notStarted(let why): return "cannot be run: \(why)"
        }
    }
}
