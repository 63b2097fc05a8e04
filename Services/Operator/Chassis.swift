import CLinux
import Foundation
import Messages
import ServiceKit

/// One lab host as its case has it: power, BMC, network port, and the processes inside. Nothing here talks to a Bulwark process.
struct Chassis: Sendable {
    let instance: Instance
    /// From 1; also the host id in every lockspace.
    let number: Int

    var name: String { "host\(number)" }
    var address: String { "10.77.0.\(number)" }
    var bmcAddress: String { "10.77.1.\(number)" }
    var namespace: String { "\(instance.managerNamespace)-\(name)" }
    /// The manager's end of the host's network cable.
    var port: String { "v-\(name)" }
    /// Kept over power cycles.
    var state: String { "\(instance.file.state)/\(name)" }
    /// Emptied at each power-on.
    var run: String { "\(instance.file.run)/\(name)" }
    var bmc: String { "\(state)/bmc" }
    var secretFile: String { "\(bmc)/secret" }
    var bootIDFile: String { "\(state)/boot-id" }
    var hardwareIDFile: String { "\(state)/hardware-id" }
    var settingsFile: String { "\(state)/chassis.env" }
    var stuckFile: String { "\(bmc)/stuck" }
    /// While it exists the port stays down over power cycles.
    var cutFile: String { "\(instance.labRun)/\(name).cut" }
    /// `hang` or `error` while storage is cut, over power cycles too.
    var storageFile: String { "\(instance.labRun)/\(name).storage" }
    /// Exists once this host was powered on since the machine's start: from then on only its BMC changes its power.
    var poweredFile: String { "\(instance.labRun)/\(name).powered" }
    var bmcProcess: String { "\(name)/bmc" }
    static let services = ["lease-service", "host-agent"]
    static let bmcUser = "admin"

    /// In a container: as its chassis sees it.
    func controlGroup() throws -> String {
        if instance.settings.inContainers == true { return try setting("CGROUP") }
        return "\(try Instance.controlGroups())/bulwark-\(instance.name)/\(name)"
    }

    /// What the chassis of a container wrote down about itself.
    private func setting(_ key: String) throws -> String {
        for line in (Files.text(settingsFile) ?? "").split(separator: "\n") where line.hasPrefix("\(key)='") { return String(line.dropFirst(key.count + 2).dropLast()) }
        throw RequestError(RequestErrorCode.notFound, "\(settingsFile) does not say \(key); its container has not started yet")
    }

    // MARK: Making

    /// Makes everything that stays: directories, identity, BMC configuration. Changes nothing that is right already.
    func prepare() throws {
        for directory in ["\(state)/config", "\(bmc)/state", run, instance.labRun, "\(instance.file.run)/hold/\(name)", "\(instance.logs)/\(name)"] {
            try Files.directory(directory)
        }
        let hardwareID = Self.hardwareID(cluster: instance.name, host: name)
        try Files.write(hardwareID + "\n", to: hardwareIDFile)
        if !Files.exists(secretFile) {
            var random = SystemRandomNumberGenerator()
            try Files.write(String(format: "%016llx", random.next()), to: secretFile, mode: 0o600)
        }
        if instance.settings.inContainers != true { try writeSettings() }
        let secret = Files.text(secretFile) ?? ""
        try Files.write(
            """
            name "\(name)"
            set_working_mc 0x20
              startlan 1
                addr \(bmcAddress) 623
                priv_limit admin
                allowed_auths_admin md5
                guid \(hardwareID)
              endlan
              chassis_control "\(instance.settings.lab)/chassis \(settingsFile)"
              user 2 true "\(Self.bmcUser)" "\(secret)" admin 10 md5

            """, to: "\(bmc)/lan.conf", mode: 0o600)
        try Files.write(
            """
            mc_setbmc 0x20
            mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
            sel_enable 0x20 1000 0x0a
            mc_enable 0x20

            """, to: "\(bmc)/sim.emu")
    }

    /// What the lab's scripts read.
    private func writeSettings() throws {
        try Files.write(
            """
            HOST='\(name)'
            STATE='\(state)'
            RUN='\(run)'
            HOLD='\(instance.file.run)/hold/\(name)'
            LOGS='\(instance.logs)'
            LAB='\(instance.settings.lab)'
            LAB_RUN='\(instance.labRun)'
            CGROUP='\(try controlGroup())'
            MANAGER_NETNS='\(instance.managerNamespace)'
            PORT='\(port)'
            NETNS='\(namespace)'
            BIN='\(instance.settings.executables)'
            CLUSTER_FILE='\(instance.clusterFile)'
            SHARED='\(instance.shared)'
            BINDFS='\(instance.settings.bindfs == true ? "1" : "")'

            """, to: settingsFile)
    }

    /// 32 lower-case hexadecimal digits, the same for every life of this host: what the BMC gives as its GUID and the host reads in-band.
    static func hardwareID(cluster: String, host: String) -> String {
        func hash(_ text: String) -> UInt64 {
            text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        }
        return String(format: "%016llx%016llx", hash("\(cluster)/\(host)"), hash("\(host) of \(cluster)"))
    }

    // MARK: Power

    /// Read from the kernel: does a process of this host live?
    func isPowered() throws -> Bool { (Files.text("\(try controlGroup())/cgroup.events") ?? "").contains("populated 1") }

    /// Presses the power button, past the BMC.
    func powerOn() throws {
        try Tool.run("\(instance.settings.lab)/chassis", [settingsFile, "set", "power", "1"])
        try Files.write("", to: poweredFile)
    }

    /// Loses all power at once: the cable goes silent, every process is SIGKILLed; nothing inside can answer that.
    func losePower() throws {
        guard try isPowered() else { return }
        try? setPort(up: false)
        let group = try controlGroup()
        try Files.poke("1", into: "\(group)/cgroup.kill")
        try Files.poke("0", into: "\(group)/cgroup.freeze")
        guard try waitUntil(seconds: 10, { try !isPowered() }) else {
            throw RequestError(code: "lab.stuck", message: "a process of \(name) does not end: \(members()) in \(group)")
        }
    }

    /// Asks PID 1 to shut the host down in order.
    func shutDown() throws { _ = initProcess()?.signal(SIGTERM) }

    func freeze(_ frozen: Bool) throws {
        let group = try controlGroup()
        guard Files.exists(group) else { return }
        try Files.poke(frozen ? "1" : "0", into: "\(group)/cgroup.freeze")
        let wanted = "frozen \(frozen ? 1 : 0)"
        _ = waitUntil(seconds: 5) { (Files.text("\(group)/cgroup.events") ?? "").contains(wanted) }
    }

    func connect(_ connected: Bool) throws {
        if connected { try Files.remove(cutFile) } else { try Files.write("", to: cutFile) }
        try setPort(up: connected)
    }

    private func setPort(up: Bool) throws {
        let place = instance.settings.inContainers == true ? [] : ["-n", instance.managerNamespace]
        let name = instance.settings.inContainers == true ? try setting("PORT") : port
        try Tool.run("ip", place + ["link", "set", name, up ? "up" : "down"])
    }

    /// Cuts the host from its storage or, with `nil`, heals that; other hosts notice nothing. PID 1 of a running host does it within one of its turns.
    /// - Throws: `RequestError` if the cluster was not made for it, or it does not happen.
    func setStorage(_ fault: StorageFault?) throws {
        guard instance.settings.bindfs == true else {
            if fault == nil { return }
            throw RequestError(RequestErrorCode.conflict, "\(name) has its storage without a process in between; make the cluster with bulwark up --bindfs")
        }
        if let fault { try Files.write(fault.rawValue + "\n", to: storageFile) } else { try Files.remove(storageFile) }
        guard try isPowered() else { return }
        let wanted: (Character) -> Bool =
            switch fault {
            case .hang: { $0 == "T" }
            case .error: { "ZX".contains($0) }
            case nil: { "RSD".contains($0) }
            }
        guard try waitUntil(seconds: 10, { try wanted(storageState()) || !isPowered() }) else {
            throw RequestError(code: "lab.stuck", message: "the storage of \(name) does not become \(fault?.rawValue ?? "well"); see \(instance.logs)/\(name)/console.log")
        }
    }

    /// State letter of the process through which the host sees its storage; `X`: there is none.
    private func storageState() throws -> Character {
        guard let first = initProcess() else { return "X" }
        let found = members().first { Self.status($0, "PPid:").first == "\(first.pid)" && Self.status($0, "Name:").first == "bindfs" }
        return found.flatMap { Self.status($0, "State:").first?.first } ?? "X"
    }

    // MARK: Processes

    /// Every process of the host, as seen from outside.
    func members() -> [pid_t] {
        ((try? controlGroup()).flatMap { Files.text("\($0)/cgroup.procs") } ?? "").split(separator: "\n").compactMap { pid_t($0) }
    }

    /// PID 1 of the host.
    func initProcess() -> ProcessRecord? {
        for pid in members() {
            let ids = Self.status(pid, "NSpid:")
            if ids.count == 2, ids[1] == "1" { return ProcessRecord(pid: pid) }
        }
        return nil
    }

    /// The service that PID 1 runs now.
    func service(_ name: String) -> ProcessRecord? {
        guard let first = initProcess() else { return nil }
        return members().lazy.filter { Self.status($0, "PPid:").first == "\(first.pid)" && Self.program($0) == name }.compactMap { ProcessRecord(pid: $0) }.first
    }

    private static func status(_ pid: pid_t, _ key: String) -> [String] {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(key) }
        return line?.dropFirst(key.count).split(whereSeparator: \.isWhitespace).map(String.init) ?? []
    }

    /// The service that a process is, from its command line `SERVICE --cluster ...`; helpers of the same executable have other arguments.
    private static func program(_ pid: pid_t) -> String {
        let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
        let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        guard let options = words.firstIndex(of: "--cluster"), options > 0 else { return "" }
        return (words[options - 1] as NSString).lastPathComponent
    }
}

/// What the path to a host's storage does.
enum StorageFault: String {
    /// Nothing is answered; what is on its way waits.
    case hang
    /// Everything fails at once.
    case error
}
