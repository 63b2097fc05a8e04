import ArgumentParser
import Dispatch
import Foundation
import HostAgentStorage

/// `host-agent`; also its two small modes, each run as a child of its own: `host-agent probe PATH DOMAIN` and `host-agent spm-worker ...`.
///
/// `main` is not `async`: that would bring libdispatch's worker threads, whose monitor ends a process that finds other thread ids in /proc than its own, as the worker does in the PID
/// namespace of its guard.
@main
enum HostAgentMain {
    static func main() {
        let arguments = Array(CommandLine.arguments.dropFirst())
        switch arguments.first {
        case "probe" where arguments.count == 3:
            // Exit status 0: the domain answers; else the reason is on standard output.
            guard let problem = StorageProbe.run(path: arguments[1], domain: arguments[2]) else { exit(0) }
            print(problem)
            exit(1)
        case "spm-worker":
            SPMWorker.run(Array(arguments.dropFirst()))
        default:
            Task {
                await HostAgentCommand.main()
                exit(0)
            }
            dispatchMain()
        }
    }
}
