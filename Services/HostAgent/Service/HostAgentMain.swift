import ArgumentParser
import Foundation
import HostAgentStorage

/// `host-agent`; also its two small modes, each run as a child of its own: `host-agent probe PATH DOMAIN` and `host-agent spm-worker ...`.
@main
enum HostAgentMain {
    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        switch arguments.first {
        case "probe" where arguments.count == 3:
            // Exit status 0: the domain answers; else the reason is on standard output.
            guard let problem = StorageProbe.run(path: arguments[1], domain: arguments[2]) else { exit(0) }
            print(problem)
            exit(1)
        case "spm-worker":
            await SPMWorker.run(Array(arguments.dropFirst()))
        default:
            await HostAgentCommand.main()
        }
    }
}
