import Bus
import CLinux
import Foundation
import Messages
import ServiceKit
import TestLab

/// From exec to the first answered ping, with an empty state.
struct StartBench {
    let rounds: Int

    func run() throws -> [Figure] {
        let names = ["lease-service", "host-agent", "fencing-service", "spm-coordinator", "placement-service", "domain-monitor"]
        var times: [String: [Double]] = [:]
        var command: [Double] = []
        for round in 0..<rounds {
            for name in names { times[name, default: []].append(try ready(name, round)) }
            let began = cl_boottime()
            _ = Child.output("\(Child.binaries)/bulwark", ["--version"])
            command.append(Double(cl_boottime() - began) / 1e6)
        }
        return names.map { Figure("start.\($0)", "exec until a ping is answered", .milliseconds, times[$0] ?? [], judged: 0.5) }
            + [Figure("start.bulwark", "the command with --version, start to end", .milliseconds, command)]
    }

    private func ready(_ name: String, _ round: Int) throws -> Double {
        let place = try StartPlace.make(round)
        defer { place.remove() }
        let began = cl_boottime()
        let child = try Child.start(
            "\(Child.binaries)/\(name)", ["--cluster", place.clusterFile, "--config", place.configuration(of: name)], log: "\(place.directory)/\(name).log")
        defer { child.kill() }
        let socket = place.socket(of: name)
        do {
            try Wait.until("\(name) listens", seconds: 10, pause: 200) { Wait.isListening(at: socket) }
            _ = try BlockingClient(endpoint: "ipc://\(socket)").call("ping", Nothing(), timeout: .seconds(5))
        } catch {
            let log = FileManager.default.contents(atPath: "\(place.directory)/\(name).log").map { String(decoding: $0, as: UTF8.self) } ?? ""
            throw LabFailure("\(name): \(error)\n\(log.suffix(600))")
        }
        return Double(cl_boottime() - began) / 1e6
    }
}

/// A cluster that consists of nothing but files. JSON is YAML.
struct StartPlace {
    let directory: String
    var clusterFile: String { "\(directory)/cluster.yaml" }

    static func make(_ round: Int) throws -> StartPlace {
        let place = StartPlace(directory: "/tmp/bulwark-bench-start-\(getpid())-\(round)")
        for part in ["keys", "run/host1", "host1", "config"] {
            try FileManager.default.createDirectory(atPath: "\(place.directory)/\(part)", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        }
        let endpoints = ClusterFile.managerServices.map { ($0, ClusterFile.Endpoints(requests: "ipc://\(place.socket(of: $0))", events: "ipc://\(place.directory)/run/\($0).events")) }
        let file = ClusterFile(
            cluster: "bench", state: place.directory, run: "\(place.directory)/run", keys: "\(place.directory)/keys", shared: nil,
            services: Dictionary(uniqueKeysWithValues: endpoints))
        try JSON.encode(file).write(to: URL(fileURLWithPath: place.clusterFile))
        let keys = try ClusterFile.managerServices.map { try KeyFile.generate(name: $0, role: .service, host: nil) } + [KeyFile.generate(name: "host1", role: .agent, host: "host1")]
        for key in keys { try key.save(file.keyPath(key.name)) }
        try AllowList(entries: keys.map(\.entry)).save(file.allowListPath)
        for id in ["boot-id", "hardware-id"] { try Data("\(UUID().uuidString.lowercased())\n".utf8).write(to: URL(fileURLWithPath: "\(place.directory)/host1/\(id)")) }
        let host = """
            {"host": {"name": "host1", "id": 1, "bootIDFile": "\(place.directory)/host1/boot-id", "hardwareIDFile": "\(place.directory)/host1/hardware-id"},
             "run": "\(place.directory)/run/host1", "state": "\(place.directory)/host1"}
            """
        for name in ClusterFile.managerServices + ["lease-service", "host-agent"] {
            try Data((ClusterFile.managerServices.contains(name) ? "{}" : host).utf8).write(to: URL(fileURLWithPath: place.configuration(of: name)))
        }
        return place
    }

    func configuration(of service: String) -> String { "\(directory)/config/\(service).yaml" }

    func socket(of service: String) -> String {
        switch service {
        case "lease-service": "\(directory)/run/host1/lease-service.requests"
        case "host-agent": "\(directory)/run/host1/agent.requests"
        default: "\(directory)/run/\(service).requests"
        }
    }

    func remove() { try? FileManager.default.removeItem(atPath: directory) }
}
