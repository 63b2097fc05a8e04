import ArgumentParser
import Bus
import CLinux
import Foundation
import Messages
import TestLab

/// What 2,000 heartbeats a second cost fencing-service: 200 hosts of one process, over TCP with CURVE as real agents, ten heartbeats a second each.
struct HeartbeatBench {
    static let hosts = 200
    static let interval = Duration.milliseconds(100)
    private static let seconds = 10.0

    func run() throws -> [Figure] {
        let place = try StartPlace.make(0)
        defer { place.remove() }
        try Data("{\"liveness\": {\"heartbeat\": \"100ms\"}, \"fence\": {\"rehearseEvery\": \"0s\"}}".utf8).write(to: URL(fileURLWithPath: place.configuration(of: "fencing-service")))
        let fakes = try Child.start(Child.own, ["fake-hosts", place.directory], log: "\(place.directory)/fakes.log")
        defer { fakes.kill() }
        let definitions = "\(place.directory)/\(FakeHosts.definitions)"
        try fakes.await("the hosts listen", seconds: 30) { FileManager.default.fileExists(atPath: definitions) }
        let service = try Child.start(
            "\(Child.binaries)/fencing-service", ["--cluster", place.clusterFile, "--config", place.configuration(of: "fencing-service")], log: "\(place.directory)/fencing-service.log")
        defer { service.kill() }
        let socket = place.socket(of: "fencing-service")
        try service.await("fencing-service listens", seconds: 20) { Wait.isListening(at: socket) }
        let client = try BlockingClient(endpoint: "ipc://\(socket)")
        for definition in try JSONDecoder().decode([HostDefinition].self, from: Data(contentsOf: URL(fileURLWithPath: definitions))) {
            _ = try client.call("host.add", definition, timeout: .seconds(10))
        }
        func areUp() throws -> Bool { try LabCluster.snapshot(client, as: FencingSnapshot.self).hosts.count { $0.status == .up } == Self.hosts }
        try service.await("all \(Self.hosts) are Up", seconds: 60, areUp)
        sleep(3)
        func look() -> (sent: Double, used: Double, at: Double) {
            let text = (try? String(contentsOfFile: "\(place.directory)/\(FakeHosts.sent)", encoding: .utf8)) ?? ""
            return (Double(text) ?? .nan, ProcessTable.processorTime(service.pid), Double(cl_boottime()) / 1e9)
        }
        let before = look()
        usleep(UInt32(Self.seconds * 1e6))
        let after = look()
        guard try areUp() else { throw LabFailure("not every host was heard all the time") }
        let took = after.at - before.at
        return [
            Figure("heartbeats.rate", "heartbeats that \(Self.hosts) hosts sent in a second", .rate, (after.sent - before.sent) / took),
            Figure("heartbeats.processor", "fencing-service meanwhile, of one core", .percent, (after.used - before.used) / took * 100),
            Figure("heartbeats.memory", "fencing-service, resident", .megabytes, ProcessTable.memory(service.pid).resident),
        ]
    }
}

/// Agents that do nothing but beat and answer each request that all is well.
struct FakeHosts: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "fake-hosts", shouldDisplay: false)
    static let definitions = "hosts.json"
    /// How many heartbeats were sent so far, each second.
    static let sent = "sent"
    @Argument var directory: String

    func run() throws {
        _ = cl_set_parent_death_signal(SIGKILL)
        let directory = directory
        let allow = try AllowList.load("\(directory)/keys/authorized.json")
        Reactor.shared.start()
        Reactor.shared.post {
            do {
                let fleet = try Fleet(directory, allow)
                try JSONEncoder().encode(fleet.definitions).write(to: URL(fileURLWithPath: "\(directory)/\(Self.definitions)"), options: .atomic)
                fleet.beat()
            } catch {
                FileHandle.standardError.write(Data("\(error)\n".utf8))
                Glibc.exit(1)
            }
        }
        while true { sleep(3600) }
    }

    @ReactorActor private final class Fleet {
        private(set) var definitions: [HostDefinition] = []
        private var publishers: [EventPublisher] = []
        private var sent: UInt64 = 0
        private let began = Clock.boottime()
        private let directory: String

        init(_ directory: String, _ allow: AllowList) throws {
            self.directory = directory
            for number in 1...HeartbeatBench.hosts {
                let name = "host\(number)"
                let keys = try KeyFile.generate(name: name, role: .agent, host: name)
                let security = BusSecurity(keys: keys, allow: allow)
                let (events, requests) = ("tcp://127.0.0.1:\(Child.freePort())", "tcp://127.0.0.1:\(Child.freePort())")
                publishers.append(try EventPublisher(endpoints: [events], security: security, source: "\(name)/host-agent", epoch: "\(name).1"))
                let box = ServerBox()
                box.server = try RequestServer(endpoints: [requests], security: security) { box.server?.send(ReplyFrame.encode(id: $0.header.id, .done), to: $0.returnPath) }
                let endpoints = HostEndpoints(agentRequests: requests, agentEvents: events, leaseRequests: requests, leaseEvents: events)
                definitions.append(HostDefinition(name: name, id: number, endpoints: endpoints, key: keys.curvePublic, signingKey: keys.signingPublic, fence: []))
            }
        }

        /// A tenth of the hosts at a time, so that they do not beat as one.
        func beat(_ turn: UInt64 = 0) {
            for (index, publisher) in publishers.enumerated() where UInt64(index % 10) == turn % 10 {
                let name = definitions[index].name
                publisher.publish(Event("agent.heartbeat", subject: name, body: AgentHeartbeat(
                    host: name, hostID: index + 1, bootID: "boot-\(name)", hardwareID: "hardware-\(name)", sequence: turn / 10 + 1, initializing: false, watchdogArmed: true,
                    lockspaces: (1...3).map { AgentLockspace(lockspace: "8a7b3d2e-1c4f-4e55-9d0a-6f2b1c3d4e5\($0)", state: .joined, generation: 4, generationBefore: 3) },
                    unreapedGuards: [], memoryFreeMiB: 64_000)))
                sent += 1
                if turn / 10 % 10 == 0 { publisher.publishAlive() }
            }
            if turn % 100 == 0 { try? Data("\(sent)".utf8).write(to: URL(fileURLWithPath: "\(directory)/\(FakeHosts.sent)"), options: .atomic) }
            let due = began + .milliseconds(HeartbeatBench.interval.milliseconds / 10) * Int64(turn + 1)
            Reactor.shared.after(max(.zero, due - Clock.boottime())) { [self] in beat(turn + 1) }
        }
    }

    @ReactorActor private final class ServerBox { var server: RequestServer? }
}
