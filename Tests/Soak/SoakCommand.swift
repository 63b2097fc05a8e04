import ArgumentParser
import CLinux
import Foundation
import ServiceKit
import TestLab

/// `make soak`: random faults on a real local cluster, until so many VMs failed over.
@main
struct SoakCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bulwark-soak",
        abstract: "Break a local cluster of real processes, guests and BMCs at random, with bulwark watch beside it, for a number of failovers.",
        discussion: """
            Exit status 1: a disk had two writers, bulwark watch raised an alarm, the cluster was not well again in time, or memory grew. The cluster is then left as it is.
            Needs root. Clusters with bindfs (if it is installed) also have their storage cut.
            """)
    @Option(help: "VMs that are to fail over, in all.") var failovers = 100
    @Option(help: "What is broken, and when, is drawn from it.") var seed: UInt64 = 1
    @Option(help: "Seconds after the last act of a fault within which all must be well.") var patience = 180.0
    @Flag(help: "Remove the cluster after a failure, too.") var purgeAlways = false

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        Interruption.catchSignals()
        let machine = Machine.survey()
        print(machine.text)
        let hasStorageFaults = FileManager.default.isExecutableFile(atPath: "/usr/bin/bindfs")
        if !hasStorageFaults { print("bindfs is not installed: storage is not cut") }
        // Short enough for a soak: a domain's failure is declared after 5 min else, and the SPM role waits up to a minute when its hosts keep crashing.
        let options = ["domain-monitor.domain.failure=4s", "spm-coordinator.spm.backoffLimit=5s"].flatMap { ["--config-override", $0] }
        let cluster = try LabCluster(for: "soak", options: options + (hasStorageFaults ? ["--bindfs"] : []))
        print("cluster \(cluster.name), seed \(seed)")
        fflush(nil)
        var isLeft = false
        defer { if !isLeft { cluster.down() } }
        let watch = try WatchLog(cluster)
        defer { watch.child.kill() }
        let soak = Soak(cluster, watch, FaultSource(seed: seed, hasStorageFaults: hasStorageFaults), patience: patience)
        let began = cl_boottime()
        var failure: (any Error)?
        do { try soak.run(failovers: failovers) } catch { failure = error }
        let summary = Summary(
            soak: soak, watch: watch, seconds: Double(cl_boottime() - began) / 1e9, loads: (machine.load, Machine.load()), failure: failure)
        print(summary.text)
        if failure is Interruption.Interrupted {
            print("\ninterrupted at \(soak.doing), seed \(seed)")
            throw ExitCode(130)
        }
        if failure == nil, !summary.isFlat { failure = LabFailure("memory is not flat") }
        guard let failure else { return print("\npassed, seed \(seed)") }
        isLeft = !purgeAlways
        print("\nFAILED at \(soak.doing), seed \(seed): \(failure)")
        print(cluster.bulwark(["status"]).text)
        if isLeft {
            print("left as it is: logs in \(cluster.file.state)/logs, watch in \(watch.path)")
            print("\(Child.binaries)/bulwark down --name \(cluster.name) --purge removes it")
        }
        throw ExitCode(1)
    }
}
