import Messages

/// All that placement knows of one VM.
struct VMRecord: Codable, Hashable, Sendable {
    enum Phase: String, Codable, Sendable { case preparing, down, failed, waiting, starting, up, unknown, stopping }

    var definition: VMDefinition
    var phase: Phase
    /// What its operator wants.
    var wanted = false
    /// One sentence for people: why it is in this phase.
    var reason: String
    /// The highest attempt ever used.
    var attempt: UInt64
    /// The last run; recorded before its command is sent (S9).
    var run: VMRun?
    /// Why that run is over; `nil` while it is not proven (I3), or if there was none.
    var end: RunEnd?
    /// Its last run was ended because its host shuts down.
    var leftWithHost: Bool?
    var paused = false
    /// Its QEMU does not answer.
    var isMute: Bool?
    var pid: Int32?
    var placedAt: Instant?
    /// When this run was first seen running.
    var upSince: Instant?
    /// Its host's complete report does not list this run since then.
    var missingSince: Instant?
    var preparation: Preparation?
    var round = Round()
    /// The start of the current attempt, while its answer is outstanding.
    var startAsk: RequestID?
    /// The stop or observation that is outstanding.
    var ask: RequestID?
    /// Those who want it to go on, while its agent's answer is outstanding.
    var resuming: Resuming?
    /// Not before this time another one.
    var nextAsk: Instant?
    /// Counts stops, observations and storage tasks; makes their request ids unique.
    var asks: UInt64 = 0
    /// A run of this VM that should be over was reported running.
    var sighting: Sighting?
    /// Host to the last run there that was set aside for a newer one and is over only by a proof about the host: when that is revoked, the run is in doubt again.
    var provenRuns: [String: VMRun]

    init(definition: VMDefinition, after retired: RetiredVM) {
        self.definition = definition
        attempt = retired.attempt
        asks = retired.asks
        provenRuns = retired.provenRuns
        phase = .preparing
        reason = "its disks and leases are being made"
        preparation = Preparation()
    }

    /// What a later VM of this name must know.
    var retired: RetiredVM {
        var copy = self
        copy.setRunAside()
        return RetiredVM(attempt: attempt, asks: asks, provenRuns: copy.provenRuns)
    }

    /// Before the run is replaced by another.
    mutating func setRunAside() {
        if case .hostProven = end, let run { provenRuns[run.host] = run }
    }

    /// It runs as it should: nothing is asked, started or doubted.
    var isWell: Bool { phase == .up && run != nil && end == nil && missingSince == nil && sighting == nil }

    /// Nothing of it runs anywhere, as far as is proven.
    var isOver: Bool { (run == nil || end != nil) && sighting == nil }

    /// Lockspaces of its writable disks, sorted.
    var lockspaces: [String] { Set(definition.disks.filter { !$0.readOnly }.map(\.domain)).sorted() }

    /// Storage work of its definition, in order.
    var storageWork: [StorageWork] {
        definition.disks.flatMap { disk -> [StorageWork] in
            let volume = StorageWork.volume(disk)
            guard definition.leases, !disk.readOnly else { return [volume] }
            return [volume, .lease(LeaseName(lockspace: disk.domain, resource: disk.image))]
        }
    }
}

/// What is kept of a removed VM: a new one of that name counts on, agents refuse attempts and answer request ids that they have seen (S7).
struct RetiredVM: Codable, Hashable, Sendable {
    var attempt: UInt64 = 0
    var asks: UInt64 = 0
    var provenRuns: [String: VMRun] = [:]
}

enum StorageWork: Hashable, Sendable {
    case volume(DiskDefinition)
    case lease(LeaseName)
}

/// Progress of making a VM's disks and leases.
struct Preparation: Codable, Hashable, Sendable {
    /// Index into the storage work.
    var step = 0
    /// Kept over a restart, so that the work is asked for again under the same id.
    var id: RequestID?
    var asked = false
    var retryAt: Instant?
}

/// Letting a paused VM go on.
struct Resuming: Codable, Hashable, Sendable {
    /// Of the request to the agent.
    var id: RequestID
    var askers: [RequestID]
}

/// Why a run is known to be over: the only ways out of I3.
enum RunEnd: Codable, Hashable, Sendable {
    /// Its start was refused with nothing left.
    case neverStarted(RequestError)
    /// Its agent's proof for exactly this attempt.
    case ended(HeldProof)
    /// A proof that covers the host's incarnation.
    case hostProven(HeldProof)
}

/// One round of tries to start a VM: each host once.
struct Round: Codable, Hashable, Sendable {
    /// Host to its refusal.
    var tried: [String: String] = [:]
    /// An operator asked for it: a hold of automatic recovery does not stop it.
    var byUser = false
    /// Only this host.
    var only: String?
    /// Failures in a row.
    var failures = 0
    /// Not before this time.
    var retryAt: Instant?
    /// Since when it waits; bounds the blocking by priority.
    var since: Instant?
    /// It ran, was lost and is being brought back.
    var recovering = false
    /// No host could take it.
    var hadNoHost: Bool?
    /// Until then it waits for the other hosts.
    var gathersUntil: Instant?
}

/// An older run, or one believed over, that an agent reports as running, or of which it does not know that it is over.
struct Sighting: Codable, Hashable, Sendable {
    var host: String
    var incarnation: Incarnation
    var bootID: String
    var attempt: UInt64
    var since: Instant
    var alarmed = false
    /// It may run; `nil`: it was seen to run.
    var isUnknown: Bool?

    var state: String { isUnknown == true ? "unknown" : "running" }
}

/// A host as fencing-service told it, and what its agent reported since this process started.
struct HostRecord: Codable, Hashable, Sendable {
    var view: HostView
    /// When ``view`` was received; VMs placed later are not in its free memory yet.
    var seenAt: Instant
    /// Boot of the last complete report.
    var reportedBoot: String?
    /// Undefined VMs that its agent reports as running, by name.
    var aliens: [String] = []

    /// The agent of this boot has told everything that runs there.
    var reported: Bool { view.bootID != nil && reportedBoot == view.bootID }

    /// Whether its agent can be expected to answer.
    var answers: Bool {
        switch view.status {
        case .up, .connecting, .nonOperational, .error, .preparingForMaintenance, .maintenance, .initializing: true
        case .unassigned, .nonResponsive, .reboot, .kdumping, .down: false
        }
    }
}

/// A proof and when it arrived, so that its age can be told on (S4).
struct HeldProof: Codable, Hashable, Sendable {
    var signed: SignedProof
    var receivedAt: Instant

    func aged(at now: Instant) -> SignedProof {
        var copy = signed
        copy.age = copy.age + (now - receivedAt)
        return copy
    }
}
