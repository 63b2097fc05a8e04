import ArgumentParser
import Bus
import ServiceKit

/// What every command takes. The main command declares it too, so that the options may stand before or after the verb.
///
/// Commands throw `RequestError` for everything that was refused or failed; ``CommandOutcome`` turns it into the exit status and the words on stderr.
struct GlobalOptions: ParsableArguments {
    @Option(name: .long, help: "Cluster file, or the name of a cluster on this machine (default: $BULWARK_CLUSTER, else demo).")
    var cluster: String?

    @Flag(name: .long, help: "Print JSON for programs.")
    var json = false

    /// The cluster file: `--cluster`, `BULWARK_CLUSTER`, else the default place; a bare name means a cluster's usual place.
    /// - Throws: `RequestError` (`config.unreadable`, `config.invalid`).
    func clusterFile() throws -> ClusterFile { try ClusterFile.load(cluster) }

    /// The cluster, ready to be asked.
    func connect() throws -> Cluster { Cluster(file: try clusterFile()) }

    /// Prints `value` as JSON if asked to, else what `text` says.
    func show(_ value: @autoclosure () throws -> JSONValue, text: () throws -> String) throws {
        print(json ? try value().text : try text())
    }
}
