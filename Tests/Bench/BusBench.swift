import ArgumentParser
import Bus
import BusBaseline
import CLinux
import Foundation
import Messages
import TestLab

/// Round trips over our bus beside the same over bare libzmq in C: one server process on one core, one client process on another, round by round in turn.
struct BusBench {
    let rounds: Int

    func run() throws -> [Figure] {
        let place = try BusPlace.make()
        defer { place.remove() }
        let server = try Child.start(Child.own, ["bus-serve", place.directory])
        defer { server.kill() }
        try server.await("the bus server is ready", seconds: 10) { place.isReady }
        let client = Child.output(Child.own, ["bus-measure", place.directory, "--rounds", String(rounds)])
        guard client.status == 0 else { throw LabFailure("bus-measure: \(client.text)") }
        return try JSONDecoder().decode([BusCell].self, from: Data(client.text.utf8)).flatMap(\.figures)
    }
}

/// What was measured for one transport and size: medians of rounds, in microseconds.
struct BusCell: Codable {
    var name: String
    var bare: [Double] = []
    var bus: [Double] = []
    var json: [Double] = []

    /// Ratios are taken within each round: what disturbs a round disturbs both.
    var figures: [Figure] {
        func ratio(_ ours: [Double]) -> Double { zip(ours, bare).map(/).percentile(0.5) }
        return [
            Figure("bus.\(name).bare", "bare libzmq in C, round trip", .microseconds, bare),
            Figure("bus.\(name).bus", "our bus, opaque body", .microseconds, bus),
            Figure("bus.\(name)", "our bus against bare libzmq", .ratio, ratio(bus)),
            Figure("bus.\(name).json", "the same with Codable JSON on both sides", .ratio, ratio(json)),
        ]
    }
}

/// What server and client share: endpoints and keys.
struct BusPlace: Codable {
    enum Transport: String, Codable, CaseIterable { case ipc, tcp, curve }

    var directory: String
    var server: KeyFile
    var client: KeyFile
    /// First of six free ports.
    var ports: [Int32]

    static func make() throws -> BusPlace {
        let directory = "/tmp/bulwark-bench-bus-\(getpid())"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let place = BusPlace(
            directory: directory, server: try KeyFile.generate(name: "server", role: .service, host: nil),
            client: try KeyFile.generate(name: "client", role: .service, host: nil), ports: (0..<4).map { _ in Child.freePort() })
        let path = "\(directory)/place.json"
        _ = FileManager.default.createFile(atPath: path, contents: try JSONEncoder().encode(place), attributes: [.posixPermissions: 0o600])
        return place
    }

    static func load(_ directory: String) throws -> BusPlace {
        try JSONDecoder().decode(BusPlace.self, from: Data(contentsOf: URL(fileURLWithPath: "\(directory)/place.json")))
    }

    func endpoint(_ transport: Transport, bare: Bool) -> String {
        switch transport {
        case .ipc: "ipc://\(directory)/\(bare ? "bare" : "bus")"
        case .tcp: "tcp://127.0.0.1:\(ports[bare ? 0 : 1])"
        case .curve: "tcp://127.0.0.1:\(ports[bare ? 2 : 3])"
        }
    }

    func security(_ own: KeyFile) -> BusSecurity { BusSecurity(keys: own, allow: AllowList(entries: [server.entry, client.entry])) }

    /// Runs work with the baseline's view of our keys.
    func withKeys<T>(_ transport: Transport, own: KeyFile, _ work: (baseline_keys) -> T) -> T {
        guard transport == .curve else { return work(baseline_keys(server: nil, own: nil, own_secret: nil)) }
        return server.curvePublic.withCString { serverKey in
            own.curvePublic.withCString { publicKey in
                own.curveSecret.withCString { work(baseline_keys(server: serverKey, own: publicKey, own_secret: $0)) }
            }
        }
    }

    var readyFile: String { "\(directory)/ready" }
    var isReady: Bool { access(readyFile, F_OK) == 0 }
    func remove() { try? FileManager.default.removeItem(atPath: directory) }
}

/// A body for the JSON column: numbers and names as our reports have them.
struct BusReport: Codable, Sendable {
    struct Entry: Codable, Sendable {
        var name: String
        var attempt: Int
        var running: Bool
    }

    var host: String
    var entries: [Entry]

    /// About `size` bytes of JSON.
    init(size: Int) {
        host = "host1"
        entries = (0..<max(1, (size - 30) / 46)).map { Entry(name: "vm\(100 + $0)", attempt: 1000 + $0, running: true) }
    }
}
