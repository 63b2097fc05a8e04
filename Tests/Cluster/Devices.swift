import CLinux
import Foundation
import Testing

extension TestCluster {
    /// A fence device as a line of a host's definition.
    func device(_ agent: String, _ address: String, secret: String? = nil, level: Int = 1, vouched: Bool = false, _ options: [String: String]) -> String {
        let login = secret.map { "username: admin, secretFile: \($0), " } ?? ""
        let options = options.sorted { $0.key < $1.key }.map { "\($0.key): \"\($0.value)\"" }.joined(separator: ", ")
        return "  - {agent: \(agent), address: \(address), \(login)level: \(level), \(vouched ? "vouched: true, " : "")options: {\(options)}}"
    }

    /// The device that `bulwark up` gives a host, or the same at another's.
    func ownDevice(_ host: String, level: Int = 1) -> String {
        device("fence_ipmilan", "10.77.1.\(host.dropFirst(4))", secret: "\(directory)/\(host)/bmc/secret", level: level, ["lanplus": "1", "cipher": "3", "power_wait": "0"])
    }

    /// As `bulwark up` has defined it, with other devices, and one more line.
    func definition(of host: String, _ devices: [String], also line: String = "") throws -> String {
        struct Shown: Decodable {
            var endpoints: [String: String]
            var key: String
            var signingKey: String
        }
        let shown = try JSONDecoder().decode(Shown.self, from: Data(try bulwark("--json", "host", "show", host).text.utf8))
        let endpoints = shown.endpoints.sorted { $0.key < $1.key }.map { "\($0.key): \"\($0.value)\"" }.joined(separator: ", ")
        return """
            name: \(host)
            id: \(host.dropFirst(4))
            endpoints: {\(endpoints)}
            key: "\(shown.key)"
            signingKey: "\(shown.signingKey)"
            \(line)
            fence:
            \(devices.joined(separator: "\n"))
            """
    }

    func give(_ host: String, _ devices: String..., also line: String = "") throws {
        let file = "\(directory)/\(host)-devices.yaml"
        try definition(of: host, devices, also: line).write(toFile: file, atomically: true, encoding: .utf8)
        // Refused while an agent runs for the host, as the open case lets it do now and then.
        try wait("no fence command of \(host) runs", within: 30) { try bulwark("host", "update", file, expecting: nil).status == 0 }
    }

    struct CaseRow: Decodable {
        var id: String
        var step: String
        var reason: String
    }

    /// The open case of a host.
    func openCase(_ host: String) throws -> CaseRow? {
        struct Shown: Decodable { var fenceCase: CaseRow? }
        return try JSONDecoder().decode(Shown.self, from: Data(try bulwark("--json", "host", "show", host).text.utf8)).fenceCase
    }

    func waitForCase(_ host: String, _ step: String, saying word: String, within seconds: Double = 40) throws {
        var seen = ""
        do {
            try wait("the case of \(host) is \(step) and says \"\(word)\"", within: seconds) {
                let open = try openCase(host)
                seen = "\(open?.step ?? "-"): \(open?.reason ?? "")"
                return open?.step == step && open?.reason.contains(word) == true
            }
        } catch { throw Failure("\(error)\nit was last \(seen)") }
    }

    func rehearsal(of host: String, works: Bool) throws -> String { try bulwark("fence", "rehearse", host, expecting: works ? 0 : 1).text }
}

/// A Redfish BMC that works on the chassis of a host, beside its IPMI one: sushy-emulator, see Tests/Lab/redfish-bmc.
final class RedfishBMC {
    let directory: String
    private let cluster: TestCluster
    private let address: String
    private let settings: String
    private var process: Process?
    private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path

    init(of host: String, in cluster: TestCluster) throws {
        self.cluster = cluster
        address = "10.77.1.\(host.dropFirst(4))"
        directory = "\(cluster.directory)/\(host)/redfish"
        settings = "\(cluster.directory)/\(host)/chassis.env"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try secret("sesame", to: "secret")
        try start()
    }

    deinit { kill() }

    func secret(_ text: String, to name: String) throws {
        try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
        chmod("\(directory)/\(name)", 0o600)
    }

    func device(secret name: String = "secret", vouched: Bool = true) -> String {
        cluster.device(
            "fence_redfish", address, secret: "\(directory)/\(name)", vouched: vouched,
            ["ipport": "8443", "ssl_insecure": "1", "systems_uri": "/redfish/v1/Systems/00000000-0000-4000-8000-000000000001"])
    }

    /// In the manager's network, where the other BMCs are; ready when it listens.
    func start() throws {
        let log = "\(cluster.directory)/logs/redfish.log"
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "nsenter", "--net=/run/netns/bw-\(cluster.name)", "\((Self.tests as NSString).deletingLastPathComponent)/.build/redfish/bin/python", "\(Self.tests)/Lab/redfish-bmc", settings, address, directory,
        ]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle(forWritingAtPath: log)
        process.standardError = FileHandle(forWritingAtPath: log)
        try process.run()
        self.process = process
        try cluster.wait("the Redfish BMC listens", within: 30) {
            guard process.isRunning else { throw TestCluster.Failure("it ended: \((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")") }
            return try String(contentsOfFile: log, encoding: .utf8).contains("Running on")
        }
    }

    var isRunning: Bool { process?.isRunning == true }

    func kill() {
        if let process, process.isRunning { Glibc.kill(process.processIdentifier, SIGKILL) }
        process?.waitUntilExit()
        process = nil
    }

    func fail(_ fault: String, _ value: String = "1") throws { try value.write(toFile: "\(directory)/\(fault)", atomically: true, encoding: .utf8) }
    func heal(_ fault: String) { try? FileManager.default.removeItem(atPath: "\(directory)/\(fault)") }
}

/// The device of a second power supply: `fence_dummy`, whose state is a file. Stuck, that file cannot be written.
final class DummySupply {
    let state: String
    private var isStuck = false

    init(in cluster: TestCluster) throws {
        state = "\(cluster.directory)/second-supply"
        try "on".write(toFile: state, atomically: true, encoding: .utf8)
    }

    deinit { try? stick(false) }

    func device(_ cluster: TestCluster) -> String { cluster.device("fence_dummy", "second-supply", vouched: true, ["type": "file", "status_file": state]) }

    func stick(_ stuck: Bool) throws {
        guard stuck != isStuck else { return }
        for words in stuck ? [["--bind", state, state], ["-o", "remount,ro,bind", state]] : [[state]] {
            let process = try Process.run(URL(fileURLWithPath: stuck ? "/usr/bin/mount" : "/usr/bin/umount"), arguments: words)
            process.waitUntilExit()
            guard process.terminationStatus == 0 else { throw TestCluster.Failure("\(words): exit \(process.terminationStatus)") }
        }
        isStuck = stuck
    }

    var reads: String { (try? String(contentsOfFile: state, encoding: .utf8)) ?? "" }
}
