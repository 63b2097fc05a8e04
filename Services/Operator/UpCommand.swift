import ArgumentParser
import Foundation
import Messages
import ServiceKit

/// Makes a local cluster and brings it up.
struct UpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up", abstract: "Make a local cluster of real parts and bring it up; repeated, start only what is missing.",
        discussion: "Hosts are chassis with BMCs on this machine, VMs are QEMU guests. Needs root.")

    @Option(help: "Number of hosts (default: as many as it has, else as the compose file says).") var hosts: Int?
    @Option(help: "The cluster's name; several live side by side (default: the one --cluster names).") var name: String?
    @Option(help: "Compose file (default: compose/compose.yaml of this source tree).") var compose: String?
    @Option(help: "State lives in <state-root>/<name>.") var stateRoot = "/var/lib/bulwark"
    @Option(help: "Silence that is forgiven before a host is fenced, such as 30s: --config-override fencing-service.liveness.grace=...") var grace: String?
    @Option(help: "Number of VMs to make: web1, web2, db1, app1, then vm5 ...") var vms = 4
    @Flag(help: "Make no VMs.") var noVms = false
    @Option(help: ArgumentHelp("Set a value of a service's configuration, for all hosts if it is a host's service; repeatable.", valueName: "service.section.key=value"))
    var configOverride: [String] = []
    @Flag(help: "Give each host its storage through bindfs, so that `lab cut-storage` works; slower. From the next power-on of each host.") var bindfs = false
    @Option(help: "Give up when a step takes longer than so many seconds.") var patience = 120.0
    @OptionGroup var options: GlobalOptions

    func validate() throws {
        if let hosts { guard (1...200).contains(hosts) else { throw ValidationError("--hosts must be between 1 and 200") } }
        guard (0...200).contains(vms) else { throw ValidationError("--vms must be between 0 and 200") }
        if let grace { guard Duration(text: grace) != nil else { throw ValidationError("--grace must be a duration such as 30s") } }
        _ = try overrides()
    }

    func run() throws {
        guard getuid() == 0 else { throw RequestError(code: "up.not-root", message: "a local cluster needs root: hosts are namespaces and control groups") }
        _ = try Instance.controlGroups()
        let tools = ["ip", "nsenter", "unshare", "ipmi_sim", "fence_ipmilan", "qemu-system-x86_64", "as", "ld"] + (bindfs ? ["bindfs"] : [])
        for tool in tools where Tool.find(tool) == nil {
            throw RequestError(code: "tool.missing", message: "\(tool) is not installed; compose/lab/install-packages installs what is needed")
        }
        let progress = Progress(quiet: options.json)
        let (instance, isNew) = try makeInstance()
        progress.step(isNew ? "making cluster \(instance.name) of \(instance.settings.hosts) hosts in \(instance.file.state)" : "cluster \(instance.name)")
        let changes = try InstanceFiles(instance: instance, overrides: try overrides()).make()
        try LabNetwork(instance: instance).make()
        let starter = ClusterStarter(instance: instance, progress: progress, patience: patience)
        try starter.startProcesses(changes)
        try starter.registerHosts()
        try starter.makeStorage()
        try starter.makeVMs(noVms ? 0 : vms)
        try starter.awaitUp()
        let survey = ClusterSurvey(of: starter.cluster)
        try options.show(try survey.json()) { "\n" + StatusCommand.page(survey) + "\n\n" + Self.whatNext(instance) }
    }

    private static func whatNext(_ instance: Instance) -> String {
        let executable = "\(instance.settings.executables)/bulwark"
        let command = instance.name == ClusterFile.standardName ? executable : "\(executable) --cluster \(instance.clusterFile)"
        return """
            Try next:
              1. In a second terminal: \(command) events --follow
                 and here:             \(command) lab crash host2
              2. \(command) explain vm web2
              3. \(command) lab ticks
            """
    }

    /// The instance as it is, or as it shall be.
    private func makeInstance() throws -> (Instance, isNew: Bool) {
        let directory = (URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path as NSString).deletingLastPathComponent
        let file = try layout()
        let pattern = #/[a-z][a-z0-9]*(-[a-z0-9]+)*/#
        guard file.cluster.wholeMatch(of: pattern) != nil, file.cluster.count <= 20, !file.cluster.contains(#/-host[0-9]*$/#) else {
            throw RequestError(RequestErrorCode.invalid, "a local cluster's name has at most 20 lower-case letters, digits and dashes, and does not end like a host's")
        }
        let sources = try Self.sources(near: [directory, FileManager.default.currentDirectoryPath])
        let composePath = compose.map { URL(fileURLWithPath: $0).standardizedFileURL.path }
        let settingsFile = "\(file.state)/lab.json"
        if let data = FileManager.default.contents(atPath: settingsFile) {
            var instance = Instance(file: file, settings: try JSONDecoder().decode(Instance.Settings.self, from: data))
            if let hosts {
                guard hosts >= instance.settings.hosts else {
                    throw RequestError(
                        RequestErrorCode.conflict, "\(instance.name) has \(instance.settings.hosts) hosts; fewer need a new start: bulwark down --purge, then up")
                }
                instance.settings.hosts = hosts
            }
            instance.settings.executables = directory
            instance.settings.lab = "\(sources)/lab"
            if let composePath { instance.settings.compose = composePath }
            if bindfs { instance.settings.bindfs = true }
            try instance.save()
            return (instance, false)
        }
        var instance = Instance(
            file: file,
            settings: Instance.Settings(
                hosts: hosts ?? 3, executables: directory, compose: composePath ?? "\(sources)/compose.yaml", lab: "\(sources)/lab",
                domain: UUID().uuidString.lowercased(), bindfs: bindfs ? true : nil))
        let parsed = try ComposeFile(path: instance.settings.compose, variables: instance.variables)
        if hosts == nil, let wanted = parsed.hosts { instance.settings.hosts = wanted }
        try instance.save()
        return (instance, true)
    }

    private func layout() throws -> ClusterFile {
        if let name { return Instance.layout(name: name, stateRoot: stateRoot) }
        let path = options.clusterFilePath
        if Files.exists(path) { return try options.clusterFile() }
        let state = (path as NSString).deletingLastPathComponent
        return Instance.layout(name: (state as NSString).lastPathComponent, stateRoot: (state as NSString).deletingLastPathComponent)
    }

    /// The directory `compose` of the source tree or installation that this executable belongs to.
    static func sources(near places: [String]) throws -> String {
        for place in places {
            var directory = place
            while directory.count > 1 {
                if Files.exists("\(directory)/compose/lab/chassis") { return "\(directory)/compose" }
                directory = (directory as NSString).deletingLastPathComponent
            }
        }
        throw RequestError(RequestErrorCode.notFound, "there is no compose/lab above \(places.joined(separator: " or ")); run this command from the source tree")
    }

    /// Service to key to value.
    private func overrides() throws -> [String: [String: String]] {
        // Hosts of a local cluster are broken all day, and nobody wears them out.
        var found = ["fencing-service": ["fence.maximumReboots": "1000", "power.quiet": "0s"]]
        if let grace { found["fencing-service", default: [:]]["liveness.grace"] = grace }
        for text in configOverride {
            let sides = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let path = sides[0].split(separator: ".", maxSplits: 1)
            guard sides.count == 2, path.count == 2 else {
                throw ValidationError("--config-override takes service.section.key=value, not \(text)")
            }
            guard (ClusterFile.managerServices + Chassis.services).contains(String(path[0])) else {
                throw ValidationError("--config-override: there is no service \(path[0])")
            }
            found[String(path[0]), default: [:]][String(path[1])] = String(sides[1])
        }
        return found
    }
}

/// What people see while they wait; on stderr, so that stdout stays clean.
struct Progress {
    let quiet: Bool
    private let started = Date()

    init(quiet: Bool) { self.quiet = quiet }

    func step(_ text: String) {
        guard !quiet else { return }
        FileHandle.standardError.write(Data((String(format: "%5.1fs  ", Date().timeIntervalSince(started)) + text + "\n").utf8))
    }
}
