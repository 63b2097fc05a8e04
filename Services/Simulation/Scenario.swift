public import DomainMonitorEngine
public import HostAgentEngine
public import Messages
public import PlacementEngine
public import SPMEngine

/// A cluster, what happens to it, and what is expected of it: one value for random runs and for people.
///
/// The cluster is brought up first, without faults: all hosts Up, the SPM serves, every VM with ``VM/started`` is up. Times count from then; so do the counts of ``Scenario/Expectation``.
public struct Scenario: Codable, Hashable, Sendable {
    public var name: String
    /// One sentence: what it shows.
    public var about: String
    /// Of everything that is not written down: delays, order, chance.
    public var seed: UInt64
    public var hosts: [Host]
    /// Storage domains by name; the first is the pool's master.
    public var domains: [String]
    public var vms: [VM]
    public var resources: [Resource]
    public var policy: Policy
    public var pace: Pace
    public var chaos: Chaos
    /// In the order of time; moments of the same time happen in the order written.
    public var timeline: [Moment]
    /// When it is over.
    public var end: Duration
    /// At the end everything that is broken is mended and an operator releases what is held: then all must be well again within a time that the policy makes computable.
    public var recovers: Bool
    public var expect: [Check]

    public init(
        name: String = "scenario", about: String = "", seed: UInt64 = 1, hosts: [Host] = [Host("host1"), Host("host2"), Host("host3")], domains: [String] = ["dom1"],
        vms: [VM] = [], resources: [Resource] = [], policy: Policy = Policy(), pace: Pace = Pace(), chaos: Chaos = Chaos(), timeline: [Moment] = [], end: Duration = .seconds(600), recovers: Bool = false,
        expect: [Check] = []
    ) {
        self.name = name
        self.about = about
        self.seed = seed
        self.hosts = hosts
        self.domains = domains
        self.vms = vms
        self.resources = resources
        self.policy = policy
        self.pace = pace
        self.chaos = chaos
        self.timeline = timeline
        self.end = end
        self.recovers = recovers
        self.expect = expect
    }

    public struct Host: Codable, Hashable, Sendable {
        public var name: String
        public var fence: Fence
        public var memoryMiB: Int
        /// -1 (never) ... 10.
        public var spmPriority: Int
        /// How much faster than true time its clock runs, parts per million.
        public var drift: Int
        /// A hardware watchdog, without which nothing is granted to its guests.
        public var watchdog: Bool
        /// Seconds that its lease-service is configured with, as a foreign sanlock daemon may be; `nil`: what the lockspace says.
        public var ioTimeout: Int?
        /// A second power supply, with a fence device of its own in the same level.
        public var hasTwoSupplies: Bool?
        /// A switched outlet for the whole machine: its second fence level.
        public var hasOutlet: Bool?
        /// From where its devices are reached.
        public var via: FenceRoute?
        /// Of its first device, before an off.
        public var delay: Duration?
        /// Its crash kernel writes a dump and says so.
        public var kdump: Bool?

        public init(_ name: String, fence: Fence = .verified, memoryMiB: Int = 16384, spmPriority: Int = 5, drift: Int = 0, watchdog: Bool = false, ioTimeout: Int? = nil) {
            self.name = name
            self.fence = fence
            self.memoryMiB = memoryMiB
            self.spmPriority = spmPriority
            self.drift = drift
            self.watchdog = watchdog
            self.ioTimeout = ioTimeout
        }
    }

    /// What a host's fence device is.
    public enum Fence: String, Codable, Sendable, CaseIterable {
        /// It switches this host and its GUID is the host's hardware id.
        case verified
        /// It switches this host and cannot tell its GUID; nobody vouched.
        case unverified
        /// As `unverified`, and an operator vouched for it.
        case vouched
        /// It is wired to the next host, and tells that one's GUID.
        case wrongMachine
        /// It is wired to the next host and cannot tell its GUID.
        case wrongMachineUnverified
        /// There is no device.
        case none
    }

    public struct VM: Codable, Hashable, Sendable {
        public var name: String
        public var ha: Bool
        /// 0...100, highest first.
        public var priority: Int
        public var memoryMiB: Int
        /// Domain of each writable disk.
        public var disks: [String]
        public var leases: Bool
        /// Hosts it may run on; empty: any.
        public var pin: [String]
        /// Up when the scenario begins.
        public var started: Bool
        /// Where it is up then; `nil`: where placement puts it.
        public var host: String?
        public var onLeaseLoss: LeaseLossAction?
        public var pauseBefore: Duration?
        public var resume: ResumeBehaviour?

        public init(
            _ name: String, ha: Bool = true, priority: Int = 50, memoryMiB: Int = 512, disks: [String] = ["dom1"], leases: Bool = true, pin: [String] = [],
            started: Bool = true, host: String? = nil, onLeaseLoss: LeaseLossAction? = nil, pauseBefore: Duration? = nil, resume: ResumeBehaviour? = nil
        ) {
            self.name = name
            self.ha = ha
            self.priority = priority
            self.memoryMiB = memoryMiB
            self.disks = disks
            self.leases = leases
            self.pin = pin
            self.started = started
            self.host = host
            self.onLeaseLoss = onLeaseLoss
            self.pauseBefore = pauseBefore
            self.resume = resume
        }
    }

    /// Something that programs on hosts use under a lease of that name, without being guests: alone, or several that share it.
    public struct Resource: Codable, Hashable, Sendable {
        public var name: String
        public var domain: String

        public init(_ name: String, domain: String = "dom1") {
            self.name = name
            self.domain = domain
        }
    }

    /// What the services are configured with.
    public struct Policy: Codable, Hashable, Sendable {
        public var fencing: FencingPolicy
        public var placement: PlacementPolicy
        public var spm: SPMPolicy
        public var domains: DomainPolicy
        /// sanlock's io_timeout of every domain, whole seconds: a holder's deadline is 8 of them.
        public var ioTimeout: Duration
        /// Age that a proof must have before it opens a lease or a disk.
        public var settle: Duration
        /// sanlock's watchdog_fire_timeout.
        public var watchdogFire: Duration
        /// Timeout of the hosts' hardware watchdogs.
        public var watchdog: Duration
        /// Between two probes of a storage domain.
        public var probe: Duration
        /// An operator vouches that a watchdog resets every host that cannot renew: leases that have expired are free without a proof.
        public var watchdogPromised: Bool
        /// How hosts check and restart their toolstacks; `every` zero: they do not.
        public var toolstack = Toolstack.Plan(every: .zero, timeout: .seconds(10), restarts: 3, restartTimeout: .seconds(60), pause: .seconds(5))

        public init(
            fencing: FencingPolicy = FencingPolicy(), placement: PlacementPolicy = PlacementPolicy(), spm: SPMPolicy = SPMPolicy(), domains: DomainPolicy = DomainPolicy(),
            ioTimeout: Duration = .seconds(10), settle: Duration = .zero, watchdogFire: Duration = .seconds(60), watchdog: Duration = .seconds(30),
            probe: Duration = .seconds(2), watchdogPromised: Bool = false
        ) {
            self.fencing = fencing
            self.placement = placement
            self.spm = spm
            self.domains = domains
            self.ioTimeout = ioTimeout
            self.settle = settle
            self.watchdogFire = watchdogFire
            self.watchdog = watchdog
            self.probe = probe
            self.watchdogPromised = watchdogPromised
        }
    }

    /// How fast the simulated world is when nothing is wrong.
    public struct Pace: Codable, Hashable, Sendable {
        /// From power-on to the start of a host's processes.
        public var boot: Duration
        /// What it takes to start a guest, about.
        public var guestStart: Duration
        /// What a BMC takes to answer.
        public var bmc: Duration
        /// What a message takes, at most.
        public var message: Duration
        /// What a read or write of shared storage takes, at most.
        public var storage: Duration
        /// What a journal takes to be durable, at most.
        public var journal: Duration
        /// Until a process that ended is started again.
        public var supervisor: Duration

        public init(
            boot: Duration = .seconds(30), guestStart: Duration = .milliseconds(100), bmc: Duration = .milliseconds(500), message: Duration = .milliseconds(2),
            storage: Duration = .milliseconds(10), journal: Duration = .milliseconds(5), supervisor: Duration = .seconds(1)
        ) {
            self.boot = boot
            self.guestStart = guestStart
            self.bmc = bmc
            self.message = message
            self.storage = storage
            self.journal = journal
            self.supervisor = supervisor
        }
    }

    /// Faults by chance; rates are 0...1, all 0 by default.
    public struct Chaos: Codable, Hashable, Sendable {
        /// Of messages.
        public var loss: Double
        public var duplicate: Double
        public var delayed: Double
        /// The longest delay of a delayed message.
        public var delay: Duration
        /// Of operations on shared storage.
        public var ioSlow: Double
        public var ioFail: Double
        /// Of writes to shared storage that are under way when their host loses its power: how many change some of their sectors only.
        public var torn: Double
        /// Of journal commits: the process ends as if its disk had failed.
        public var journalFail: Double
        /// Of processes, per process and minute; they are started again.
        public var kill: Double

        public init(
            loss: Double = 0, duplicate: Double = 0, delayed: Double = 0, delay: Duration = .seconds(2), ioSlow: Double = 0, ioFail: Double = 0, torn: Double = 0,
            journalFail: Double = 0, kill: Double = 0
        ) {
            self.loss = loss
            self.duplicate = duplicate
            self.delayed = delayed
            self.delay = delay
            self.ioSlow = ioSlow
            self.ioFail = ioFail
            self.torn = torn
            self.journalFail = journalFail
            self.kill = kill
        }
    }

    /// Something happens at a time.
    public struct Moment: Codable, Hashable, Sendable {
        public var at: Duration
        public var what: Happening

        public init(at: Duration, _ what: Happening) {
            self.at = at
            self.what = what
        }
    }

    /// Something is to be true at a time.
    public struct Check: Codable, Hashable, Sendable {
        /// Before what happens at that time; `nil`: at the end.
        public var at: Duration?
        public var what: Expectation

        public init(at: Duration? = nil, _ what: Expectation) {
            self.at = at
            self.what = what
        }
    }

    /// The names that its sentences may use.
    public var vocabulary: Vocabulary { Vocabulary(hosts: hosts.map(\.name), vms: vms.map(\.name), domains: domains, resources: resources.map(\.name)) }
}
