import ArgumentParser
import CLinux
import Foundation
import Messages
import TestLab

/// Profile `fast` while every processor is nine tenths busy: nobody is fenced who lives.
struct LoadBench {
    let cluster: LabCluster
    let minutes: Double

    func run() throws -> [Figure] {
        try cluster.waitUntilWell("the start")
        let log = try EventLog(cluster, services: ["fencing-service"])
        let before = try cluster.vms()
        let began = EventLog.now()
        let burners = try (0..<ProcessInfo.processInfo.activeProcessorCount).map { _ in try Child.start(Child.own, ["burn"]) }
        defer { for burner in burners { burner.kill() } }
        let idleBefore = try Self.idle()
        let end = cl_boottime() + Int64(minutes * 60e9)
        while cl_boottime() < end { sleep(1) }
        let idleAfter = try Self.idle()
        let events = log.since(began)
        let cases = events.filter { $0.topic.hasPrefix("fence.started.") }
        let connecting = events.filter { $0.topic.hasPrefix("host.status.") && String(decoding: $0.frame, as: UTF8.self).contains("\"status\":\"Connecting\"") }
        let after = try cluster.vms()
        guard cases.isEmpty, before.map(\.attempt) == after.map(\.attempt) else {
            throw LabFailure("\(cases.count) fence cases of hosts that lived, within \(minutes) minutes: \(cases.map { String(decoding: $0.frame, as: UTF8.self) }.joined(separator: "\n"))")
        }
        let busy = 100 * (1 - (idleAfter.idle - idleBefore.idle) / (idleAfter.all - idleBefore.all))
        return [
            Figure("load.minutes", "profile fast, nobody was fenced", .count, minutes),
            Figure("load.busy", "processor time that was used meanwhile", .percent, busy),
            Figure("load.connecting", "times that a host missed two heartbeats meanwhile", .count, Double(connecting.count)),
        ]
    }

    /// Ticks of all processors since the machine's start.
    private static func idle() throws -> (idle: Double, all: Double) {
        let line = try String(contentsOfFile: "/proc/stat", encoding: .utf8).split(separator: "\n").first ?? ""
        let numbers = line.split(separator: " ").dropFirst().prefix(8).compactMap { Double($0) }
        guard numbers.count == 8 else { throw LabFailure("/proc/stat: \(line)") }
        return (numbers[3] + numbers[4], numbers.reduce(0, +))
    }
}

/// Keeps a processor nine tenths busy until it is killed.
struct Burn: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "burn", shouldDisplay: false)

    func run() throws {
        _ = cl_set_parent_death_signal(SIGKILL)
        while true {
            let until = cl_boottime() + 90_000_000
            while cl_boottime() < until {}
            usleep(10_000)
        }
    }
}
