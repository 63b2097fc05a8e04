/// Error codes of placement-service.
public enum PlacementErrorCode: String, CaseIterable, Sendable {
    case notFound = "vm.not-found"
    case exists = "vm.exists"
    /// A disk is part of another definition (S5).
    case diskInUse = "vm.disk-in-use"
    /// The definition is not usable; the message names the key.
    case badDefinition = "vm.bad-definition"
    /// No host passes the filters; details give the reason for each.
    case noHost = "placement.no-host"
    /// The VM's last run is not proven over (I3).
    case notProven = "vm.not-proven-over"
    /// The VM is in a state that does not allow this.
    case badState = "vm.bad-state"
}

/// A VM as the operator defines it.
public struct VMDefinition: Codable, Hashable, Sendable {
    public var name: String
    public var memoryMiB: Int
    public var cpus: Int
    public var disks: [DiskDefinition]
    /// Restarted elsewhere after a proof; requires leases.
    public var ha: Bool
    /// One lease for each writable disk (S5), shared with other VMs where the disk is shareable.
    public var leases: Bool
    /// 0...100, highest first.
    public var priority: Int
    /// Hosts it may run on; empty: any.
    public var pin: [String]
    /// `nil`: killed.
    public var onLeaseLoss: LeaseLossAction?
    /// With ``LeaseLossAction/pause``: how long before the deadline of its leases it is paused; `nil`: 2 x io_timeout.
    public var pauseBefore: Duration?
    /// `nil`: ``ResumeBehaviour/kill`` with `ha`, else ``ResumeBehaviour/auto``.
    public var resume: ResumeBehaviour?

    public init(
        name: String, memoryMiB: Int, cpus: Int = 1, disks: [DiskDefinition], ha: Bool = false, leases: Bool = true, priority: Int = 50, pin: [String] = [],
        onLeaseLoss: LeaseLossAction? = nil, pauseBefore: Duration? = nil, resume: ResumeBehaviour? = nil
    ) {
        self.name = name
        self.memoryMiB = memoryMiB
        self.cpus = cpus
        self.disks = disks
        self.ha = ha
        self.leases = leases
        self.priority = priority
        self.pin = pin
        self.onLeaseLoss = onLeaseLoss
        self.pauseBefore = pauseBefore
        self.resume = resume
    }
}

/// What happens to a guest whose leases are about to be lost, because no renewal of them is verified any more.
public enum LeaseLossAction: String, Codable, Sendable, CaseIterable {
    /// It runs on, and is killed at their deadline.
    case kill
    /// It is paused some time before the deadline. If a renewal comes in time and the leases, read again, are its own, it goes on; at the deadline it is killed.
    case pause
}

/// What happens to a guest that its hypervisor has paused because of an I/O error.
public enum ResumeBehaviour: String, Codable, Sendable, CaseIterable {
    /// It goes on as soon as its storage answers and its leases, read again, are its own.
    case auto
    /// It stays paused, until it is stopped.
    case leave
    /// As `auto`, but one that is paused for longer than ``limit`` is ended: an HA VM is started again, perhaps elsewhere.
    case kill

    /// 8 x io_timeout, for the usual one.
    public static let limit = Duration.seconds(80)
}

public struct DiskDefinition: Codable, Hashable, Sendable {
    /// Uuid of the disk's image; names its lease.
    public var image: String
    /// Uuid of its storage domain.
    public var domain: String
    /// Bytes; for creation.
    public var size: UInt64
    /// File whose bytes a new disk begins with.
    public var source: String?
    public var readOnly: Bool
    /// Several VMs may write to it at a time, each on a host of its own: what keeps their writes apart is in the guests. They share its lease; `nil`: no.
    public var shareable: Bool?
    public var isShareable: Bool { shareable == true }

    public init(image: String, domain: String, size: UInt64, source: String? = nil, readOnly: Bool = false, shareable: Bool? = nil) {
        self.image = image
        self.domain = domain
        self.size = size
        self.source = source
        self.readOnly = readOnly
        self.shareable = shareable
    }
}

public enum VMStatus: String, Codable, Sendable { case up, down, paused, migrating, starting, stopping, locked, error, unknown }

/// One run of a VM, journaled before the command is sent (S9).
public struct VMRun: Codable, Hashable, Sendable {
    public var attempt: UInt64
    public var host: String
    public var incarnation: Incarnation
    public var bootID: String
    public var generations: [String: UInt64]
    /// It was started with a lease in each of the lockspaces of ``generations``, and so cannot outlive any of them; `nil`: it was not, or nobody wrote that down.
    public var leased: Bool?
    public init(attempt: UInt64, host: String, incarnation: Incarnation, bootID: String, generations: [String: UInt64], leased: Bool? = nil) {
        self.attempt = attempt
        self.host = host
        self.incarnation = incarnation
        self.bootID = bootID
        self.generations = generations
        self.leased = leased
    }

    /// Whether this proof about its host says that it is over: its incarnation is, or every lease that it ran with has expired.
    public func isOver(by proof: Proof) -> Bool {
        guard proof.host == host else { return false }
        if proof.covers(host: host, incarnation: incarnation) { return true }
        guard proof.kind == .leaseExpired, leased == true, !generations.isEmpty else { return false }
        return generations.allSatisfy { proof.covers(lockspace: $0.key, hostID: proof.hostID, generation: $0.value) }
    }
}

/// A VM: body of `vm.status`, `vm.defined`, `vm.placed`, `vm.failed`, `vm.recovered`, element of `vm.list`.
public struct VMView: Codable, Hashable, Sendable {
    public var name: String
    public var status: VMStatus
    /// Only where it runs now.
    public var host: String?
    /// What its operator wants.
    public var wanted: Bool
    public var ha: Bool
    public var priority: Int
    public var attempt: UInt64
    /// The last run, also while it is unknown or over.
    public var run: VMRun?
    public var pid: Int32?
    public var reason: String
    public var definition: VMDefinition?
    public init(
        name: String, status: VMStatus, host: String?, wanted: Bool, ha: Bool, priority: Int, attempt: UInt64, run: VMRun?, pid: Int32?, reason: String,
        definition: VMDefinition? = nil
    ) {
        self.name = name
        self.status = status
        self.host = host
        self.wanted = wanted
        self.ha = ha
        self.priority = priority
        self.attempt = attempt
        self.run = run
        self.pid = pid
        self.reason = reason
        self.definition = definition
    }
}

/// Body of `vm.show`, `vm.start`, `vm.stop`, `vm.remove`, `vm.reset-power-state`.
public struct VMRequest: Codable, Hashable, Sendable {
    public var vm: String
    /// For `vm.start`: only this host.
    public var host: String?
    public init(vm: String, host: String? = nil) {
        self.vm = vm
        self.host = host
    }
}

/// Reply to `vm.list` and body of `snapshot` of placement-service.
public struct VMList: Codable, Sendable {
    public var vms: [VMView]
    public init(vms: [VMView]) { self.vms = vms }
}

/// Why each host was or was not chosen: reply to `placement.explain`, evidence of a decision.
public struct PlacementReasons: Codable, Hashable, Sendable {
    /// Host to the filter that rejected it.
    public var rejected: [String: String]
    /// Candidates, best first.
    public var candidates: [String]
    public init(rejected: [String: String], candidates: [String]) {
        self.rejected = rejected
        self.candidates = candidates
    }
}
