import ArgumentParser
import Bus
import Foundation
import Messages

/// How a command ends: 0 done, 1 refused or failed, 2 wrong usage, 3 outcome unknown.
enum CommandOutcome: Int32 {
    case done = 0
    case refused = 1
    case usage = 2
    case unknown = 3

    /// Parses the arguments, runs the command and ends the process with the right exit status.
    static func run(_ command: any ParsableCommand.Type) async -> Never {
        do {
            var parsed = try command.parseAsRoot()
            if !type(of: parsed).configuration.subcommands.isEmpty {
                write(command.helpMessage(for: type(of: parsed)))
                exit(usage.rawValue)
            }
            if var waiting = parsed as? any AsyncParsableCommand {
                try await waiting.run()
            } else {
                try parsed.run()
            }
            exit(done.rawValue)
        } catch {
            exit(report(error, of: command))
        }
    }

    /// Says on stderr what happened and what to do next, and returns the exit status.
    private static func report(_ error: any Error, of command: any ParsableCommand.Type) -> Int32 {
        if let error = error as? RequestError {
            complain(error)
            return (error.code == RequestErrorCode.unknownOutcome.rawValue ? unknown : refused).rawValue
        }
        if let code = error as? ExitCode { return code.rawValue }
        let text = command.fullMessage(for: error)
        switch command.exitCode(for: error) {
        case .success:
            print(text)
            return done.rawValue
        case .validationFailure:
            write(text)
            return usage.rawValue
        default:
            complain(RequestError(code: "command.failed", message: text.isEmpty ? "\(error)" : text))
            return refused.rawValue
        }
    }

    private static func complain(_ error: RequestError) {
        if CommandLine.arguments.contains("--json"), let json = try? JSONValue(encoding: ["error": error]).text {
            write(json)
            return
        }
        var lines = ["error: \(error.code): \(error.message)"]
        for (name, value) in (error.details ?? [:]).sorted(by: { $0.key < $1.key }) { lines.append("  \(name): \(value)") }
        if let wayOut = wayOut(of: error.code) { lines.append("  \(wayOut)") }
        write(lines.joined(separator: "\n"))
    }

    /// What to do next, for codes whose message cannot know it.
    private static func wayOut(of code: String) -> String? {
        switch code {
        case OperatorError.serviceSilent.rawValue: "see `bulwark status` and the logs; `bulwark up` starts what is missing"
        case RequestErrorCode.unknownOutcome.rawValue: "it may or may not have happened: look with the `show` verb before you repeat the command"
        case RequestErrorCode.journalFull.rawValue: "make room on the disk of the state directory; the service resumes by itself"
        case PlacementErrorCode.notProven.rawValue, SPMErrorCode.noSPM.rawValue:
            "`bulwark status` shows the open fence cases; if a machine is really off, `bulwark host confirm-off` says so"
        case PlacementErrorCode.noHost.rawValue: "`bulwark host list` and `bulwark explain vm NAME` show what is missing"
        case FencingErrorCode.signsOfLife.rawValue: "make sure that the machine is off; a host that lives is never confirmed off"
        case FencingErrorCode.held.rawValue: "`bulwark ha status` shows what holds it; `bulwark hold --release` ends a hold"
        case FencingErrorCode.stale.rawValue: "`bulwark host show NAME` shows the current case and incarnation"
        case LeaseErrorCode.notJoined.rawValue: "`bulwark domain list` shows where the domain is seen; name another host with --host"
        case LeaseErrorCode.indexUpdating.rawValue, LeaseErrorCode.corrupt.rawValue: "`bulwark lease list` shows what is wrong, `bulwark lease rebuild` repairs it"
        case OperatorError.volumeInUse.rawValue: "let the hosts leave, or the holder end; `bulwark lockspace dump --path` shows who it is"
        case OperatorError.notConfirmed.rawValue: "add --yes, or type the confirmation at a terminal"
        default: nil
        }
    }

    private static func write(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
}
