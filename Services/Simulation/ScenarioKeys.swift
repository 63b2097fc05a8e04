import DomainMonitorEngine
import HostAgentEngine
public import Messages
import PlacementEngine
import SPMEngine

extension Scenario.Policy {
    /// The durations by the names that they have in the services' configuration, where they are there.
    public static let durations: [(name: String, path: any WritableKeyPath<Self, Duration> & Sendable)] = [
        ("liveness.heartbeat", \.fencing.heartbeat), ("liveness.grace", \.fencing.grace), ("liveness.graceSPM", \.fencing.graceSPM),
        ("liveness.gracePerVM", \.fencing.gracePerVM), ("fence.agentTimeout", \.fencing.agentTimeout), ("fence.bootTimeout", \.fencing.bootTimeout),
        ("fence.retry", \.fencing.retry), ("fence.softTimeout", \.fencing.softTimeout), ("fence.kdumpWait", \.fencing.kdumpWait), ("fence.kdumpQuiet", \.fencing.kdumpQuiet), ("fence.kdumpLimit", \.fencing.kdumpLimit), ("fence.joinPatience", \.fencing.joinPatience), ("liveness.initializing", \.fencing.initializing), ("fence.nonOperational", \.fencing.nonOperational), ("fence.toolstackLost", \.fencing.toolstackLost),
        ("recovery.settle", \.placement.settle), ("recovery.retryFirst", \.placement.retryFirst), ("recovery.retryLongest", \.placement.retryLongest),
        ("saving.emptyFor", \.savingEmptyFor), ("saving.pause", \.savingPause), ("recovery.stableAfter", \.placement.stableAfter), ("recovery.priorityBlocking", \.placement.priorityBlocking),
        ("observe.every", \.placement.observeEvery), ("observe.doubt", \.placement.doubt),
        ("spm.check", \.spm.check), ("spm.retry", \.spm.retry), ("spm.shortTerm", \.spm.shortTerm), ("spm.backoff", \.spm.backoff),
        ("spm.backoffLimit", \.spm.backoffLimit),
        ("domain.failure", \.domains.failure), ("domain.retry", \.domains.retry), ("domain.patience", \.domains.patience),
        ("storage.ioTimeout", \.ioTimeout), ("storage.settle", \.settle), ("storage.probe", \.probe), ("lease.watchdogFire", \.watchdogFire), ("watchdog.timeout", \.watchdog),
        ("toolstack.every", \.toolstack.every), ("toolstack.timeout", \.toolstack.timeout), ("toolstack.restartTimeout", \.toolstack.restartTimeout), ("toolstack.pause", \.toolstack.pause),
    ]

    public static let watchdogPromisedKey = "lease.watchdogPromised"

    public static let numbers: [(name: String, path: any WritableKeyPath<Self, Int> & Sendable)] = [("liveness.minimumMissed", \.fencing.minimumMissed), ("fence.maximumReboots", \.fencing.maximumReboots), ("spm.missed", \.spm.missed), ("toolstack.restarts", \.toolstack.restarts), ("saving.reserveHosts", \.savingReserveHosts), ("saving.reserveMemory", \.savingReserveMemory)]

    // Whoever sets any of these saves power.
    private var saving: PowerSavingPolicy {
        get { placement.saving ?? PowerSavingPolicy() }
        set { if newValue != saving { placement.saving = newValue } }
    }

    var savingEmptyFor: Duration { get { saving.emptyFor } set { saving.emptyFor = newValue } }
    var savingPause: Duration { get { saving.pause } set { saving.pause = newValue } }
    var savingReserveHosts: Int { get { saving.reserveHosts } set { saving.reserveHosts = newValue } }
    var savingReserveMemory: Int { get { saving.reserveMemoryMiB } set { saving.reserveMemoryMiB = newValue } }
}

extension Scenario.Pace {
    public static let durations: [(name: String, path: any WritableKeyPath<Self, Duration> & Sendable)] = [
        ("boot", \.boot), ("guestStart", \.guestStart), ("bmc", \.bmc), ("message", \.message), ("storage", \.storage), ("journal", \.journal), ("supervisor", \.supervisor),
    ]
}

extension Scenario.Chaos {
    public static let rates: [(name: String, path: any WritableKeyPath<Self, Double> & Sendable)] = [
        ("loss", \.loss), ("duplicate", \.duplicate), ("delayed", \.delayed), ("ioSlow", \.ioSlow), ("ioFail", \.ioFail), ("torn", \.torn), ("journalFail", \.journalFail),
        ("kill", \.kill),
    ]
}

extension Scenario {
    /// What the services call domains and disks, and what a person calls them.
    public var identifiers: [(id: String, name: String)] {
        let images = vms.enumerated().flatMap { number, vm in
            vm.disks.indices.map { (id: World.image(vm: number, disk: $0, removed: 0), name: vm.disks.count == 1 ? "disk of \(vm.name)" : "disk \($0 + 1) of \(vm.name)") }
        }
        return domains.indices.map { (id: World.uuid(1, $0 + 1), name: domains[$0]) } + images
    }
}
