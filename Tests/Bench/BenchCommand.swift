import ArgumentParser
import CLinux
import Foundation
import ServiceKit
import TestLab

/// `make bench`: measures what Bulwark promises about time and memory, and fails when a bound of `thresholds.json` is broken.
@main
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bulwark-bench",
        abstract: "Measure round trips, leases beside sanlock, failover by step, start, restart and memory of the release build; exit status 1 if a threshold is broken.",
        discussion: "Needs root and two cores. Run it on a quiet machine: the load is printed with the figures.",
        subcommands: [Run.self, BusServe.self, BusMeasure.self, FakeHosts.self, Burn.self], defaultSubcommand: Run.self)

    /// `load` takes its time and is no part of a run that names none; `leases` is all three of `cycles`, `renewals` and `takeover`.
    enum Part: String, CaseIterable, ExpressibleByArgument { case bus, start, leases, cycles, renewals, takeover, memory, restart, failover, heartbeats, fencing, load }

    struct Run: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Measure and judge (the default).")
        @Option(help: "Write machine, figures and judgement to this file, too.") var json: String?
        @Option(help: "Bounds and aims.") var thresholds = "Tests/Bench/thresholds.json"
        @Option(help: "Only these parts, such as bus, leases or failover; repeatable.") var only: [Part] = []
        @Option(help: "How long the part load keeps the processors at 90 percent, in minutes.") var minutes = 60.0
        @Option(help: "Hosts to crash, one after another.") var crashes = 20
        @Option(help: "Rounds of the bus measurement, of acquire and release, and of each start and restart.") var rounds = 7

        @Option(help: "Where the lease volumes are: on the file system to be measured. /dev/shm leaves the disk out.") var leaseDirectory = "/var/lib/bulwark"

        func run() throws {
            signal(SIGPIPE, SIG_IGN)
            let thresholds = try Thresholds.load(thresholds)
            let parts = only.isEmpty ? BenchCommand.Part.allCases.filter { $0 != .load } : only
            let machine = Machine.survey()
            print(machine.text)
            var figures: [Figure] = []
            func add(_ new: [Figure]) {
                for figure in new { print(thresholds.judge(figure).text) }
                fflush(nil)
                figures += new
            }
            if parts.contains(.bus) { add(try BusBench(rounds: rounds).run()) }
            if parts.contains(.start) { add(try StartBench(rounds: rounds).run()) }
            let leases = parts.contains(.leases) ? [.cycles, .renewals, .takeover] : parts.filter { [.cycles, .renewals, .takeover].contains($0) }
            if !leases.isEmpty { try LeaseBench(rounds: rounds, directory: leaseDirectory).run(leases) { add($0) } }
            if parts.contains(where: { [.memory, .restart, .failover].contains($0) }) {
                let cluster = try LabCluster(for: "bench")
                defer { cluster.down() }
                if parts.contains(.memory) { add(try MemoryBench(cluster: cluster).run(after: 30, named: "memory")) }
                if parts.contains(.restart) { add(try RestartBench(cluster: cluster, rounds: rounds).run()) }
                if parts.contains(.failover) { add(try FailoverBench(cluster: cluster, crashes: crashes).run()) }
                // Does it grow with what happens?
                if parts.contains(.memory), parts.contains(.failover) { add(try MemoryBench(cluster: cluster).run(after: 12, named: "memory-later")) }
            }
            if parts.contains(.heartbeats) { add(try HeartbeatBench().run()) }
            if parts.contains(where: { [.fencing, .load].contains($0) }) {
                let cluster = try LabCluster(for: "fast", grace: nil, options: ["--config-override", "fencing-service.fence.profile=fast"])
                defer { cluster.down() }
                if parts.contains(.fencing) { add(try FencingBench(cluster: cluster, crashes: crashes).run()) }
                if parts.contains(.load) { add(try LoadBench(cluster: cluster, minutes: minutes).run()) }
            }
            let judged = figures.map(thresholds.judge)
            let missing = only.isEmpty ? thresholds.names.filter { name in !figures.contains { $0.name == name } } : []
            let report = Report(machine: machine, loadAtEnd: Machine.load(), figures: judged, missing: missing)
            if let json { try report.write(to: json) }
            print(report.summary)
            if !report.passed { throw ExitCode(1) }
        }
    }
}
