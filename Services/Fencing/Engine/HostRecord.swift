import Messages

/// All that is known of one registered host. Durable.
struct HostRecord: Codable, Hashable, Sendable {
    var definition: HostDefinition
    var status = HostStatus.unassigned
    var reason = "registered, not heard yet"

    // Identity
    /// Counts lives from 1; 0: never heard.
    var incarnation = Incarnation(0)
    /// Where a host of the same name had left off when it was forgotten.
    var baseIncarnation = Incarnation(0)
    /// The last lives, oldest first, the current one last.
    var lives: [Life] = []
    var hardwareID: String?
    /// Why what is heard under this name is not believed.
    var identityProblem: String?
    /// It was heard with a new boot id so soon after the old one that both may live (S14): what came before is proven over if the old one stays unheard until then.
    var rebootDoubtedUntil: Instant?
    /// Boot ids of a forgotten host of the same name (S20).
    var refusedBoots: [String] = []

    // What its last believed heartbeat said
    var liveness = Liveness.observing
    var silence: Silence?
    var initializing = false
    var watchdogArmed = false
    /// The last order about its watchdog that it obeyed, as its heartbeat says, and whether it says that it is armed.
    var obeyedOrder: WatchdogOrder?
    var saysArmed: Bool?
    /// The last order about its watchdog that was sent.
    var sentOrder: WatchdogOrder?
    /// When that is sent again.
    var orderAgain: Instant?
    /// How far its own shutdown has come (S19).
    var leaving: AgentHeartbeat.Leaving?
    /// It shuts down only to save power.
    var leavesToSave: Bool?
    /// When that is called off again.
    var callOffAt: Instant?
    /// It is powered down to save power.
    var saving: Saving?
    var memoryMiB: Int?
    /// Joined lockspaces with the generation of this life.
    var generations: [String: UInt64] = [:]
    /// What this life read from its own sectors before its first join.
    var generationsBefore: [String: UInt64] = [:]
    /// Highest generation ever heard of, in each lockspace: what a complete proof must cover.
    var highestGenerations: [String: UInt64] = [:]
    var unreaped: [String] = []
    /// Runs that ended there and cannot be proven over, because its storage does not answer (S4).
    var unproven: [String]?
    /// Lockspaces that it wants to be in and is not.
    var lost: [String]?
    /// Since when there is any of these; while no other host could go on with it, it does not count.
    var unreapedSince: Instant?
    /// Its hypervisor cannot be controlled, as its agent says.
    var toolstack: ToolstackReport?
    /// Since when that is lost, heard without interruption.
    var toolstackLostSince: Instant?
    /// Since it answers and is not initializing: how long it may lack lockspaces.
    var answeringSince: Instant?

    /// Since when its agent finds out what runs there.
    var initializingSince: Instant?
    /// Since when it answers and is not operational, without interruption.
    var nonOperationalSince: Instant?
    /// Why it is left running all the same, as far as that was told.
    var spared: String?
    var guests: Guests?
    /// Its crash kernel says that it writes a dump.
    var dump: CrashDump?

    /// Its agent's word that it obeys other managers.
    var obeysOthers: String?

    // What people and other services say
    var maintenance = false
    var nonOperational: String?
    var error: String?
    /// An operator switched it off: no case switches it on again (S18).
    var keptOff = false

    // Power
    var power = PowerState.unknown
    /// What each of its devices read when it was asked last, by its index.
    var reads: [Int: PowerState]?
    /// What is known of its first fence device.
    var device = DeviceTrust.unknown
    /// What is known of the others, by their index.
    var otherDevices: [Int: DeviceTrust]?
    /// Which of its levels is tried now, from 0; `nil` is 0.
    var level: Int?
    /// When its cases switched it on, within the last window.
    var reboots: [Instant]?
    /// When an `off` of its cases, which it answered all the while, had no effect, within the last window.
    var vainOffs: [Instant]?
    /// When an operator's last power command ended.
    var commandedAt: Instant?
    /// When every way to fence it was tried last, or it was heard first.
    var rehearsedAt: Instant?
    /// The one fence command that runs.
    var run: FenceRun?
    /// A command whose effect is not known: nothing but `status` until a status resolves it (S18).
    var unresolved: FenceAction?
    /// What the last destructive run said if it failed.
    var lastOutput = ""
    /// Proxies whose last run for it failed, the latest last.
    var failedProxies: [String]?
    /// The last run failed through its proxy, and another one was not tried yet.
    var hasAnotherProxy: Bool?
    /// By proxy: the command that it may still carry out, since it did not answer.
    var owed: [String: OwedRun]?
    /// What an operator asked for.
    var command: PowerCommand?
    var confirmation: PendingConfirmation?
    /// It is forgotten as soon as the proof that rests on the operator's word is published.
    var forgetting: Forgetting?

    // Recovery
    var fenceCase: FenceCase?
    var proof: SignedProof?
    /// The newest `leaseExpired` proof, unless ``proof`` covers as much.
    var leaseProof: SignedProof?
    /// How far its leases are from having expired.
    var expiry: Expiry?
    /// Minted, not signed yet.
    var minted: Proof?
    /// When a held or failed step, or an open outcome, is looked at again.
    var retryAt: Instant?
    var identifyAt: Instant?
    /// How often devices that only other hosts reach were asked who they are.
    var identifyTries: Int?
    /// What `host.status` last said.
    var published: HostView?
    /// Numbers for runs, cases, proofs, questions and connections of this host.
    var counter: UInt64 = 0
    var connection: UInt64 = 1

    enum Liveness: String, Codable, Hashable, Sendable { case observing, heard, missing, silent }

    /// Whether it was last heard to renew this very sector: one of a lockspace that it has left, or of an earlier membership, stands still whether it lives or not.
    func renews(_ sector: Sector) -> Bool {
        (generations.isEmpty || generations[sector.lockspace] != nil) && sector.generation >= highestGenerations[sector.lockspace] ?? 0
    }

    /// What its crash kernel says, or whoever sends from its address: that is not proven, and proves nothing.
    struct CrashDump: Codable, Hashable, Sendable {
        var address: String
    }

    /// One life of the host.
    struct Life: Codable, Hashable, Sendable {
        var incarnation: Incarnation
        var bootID: String
    }

    /// Whether the fence device is known to be this machine's (S10).
    enum DeviceTrust: Codable, Hashable, Sendable {
        case unknown
        case guid(String)
        case cannotTell
    }

    init(definition: HostDefinition) { self.definition = definition }

    var name: String { definition.name }
    var bootID: String? { lives.last?.bootID }

    /// Its levels in turn, each with the indices of its devices.
    var levels: [[Int]] {
        let fence = definition.fence
        return Set(fence.map { $0.level ?? 1 }).sorted().map { level in fence.indices.filter { (fence[$0].level ?? 1) == level } }
    }

    /// The devices that act now.
    var levelDevices: [Int] { levels.isEmpty ? [] : levels[min(level ?? 0, levels.count - 1)] }
    /// The first of them.
    var fenceDevice: FenceDevice? { levelDevices.first.map { definition.fence[$0] } }

    /// Those through which it went.
    func devices(of run: FenceRun) -> [Int] { run.level.map { levels.indices.contains($0) ? levels[$0] : [] } ?? levelDevices }

    /// Devices that read on when they were asked last, whatever the others say.
    var readingOn: [FenceDevice] { (reads ?? [:]).filter { $0.value == .on && definition.fence.indices.contains($0.key) }.keys.sorted().map { definition.fence[$0] } }

    /// A run through those that act now has ended.
    mutating func note(_ run: FenceRun, _ result: FenceResult) {
        var all = reads ?? [:]
        for (position, index) in devices(of: run).enumerated() where position < run.devices.count {
            let part = result.parts.flatMap { $0.indices.contains(position) ? $0[position].outcome : nil } ?? result.outcome
            all[index] = run.action.isDestructive ? .unknown : part.powerState
        }
        reads = all
    }

    func trust(_ index: Int) -> DeviceTrust { index == 0 ? device : otherDevices?[index] ?? .unknown }

    mutating func setTrust(_ index: Int, _ trust: DeviceTrust) {
        if index == 0 { device = trust } else { otherDevices = (otherDevices ?? [:]).merging([index: trust]) { $1 } }
    }

    /// The current life is proven to be over.
    var isProvenDead: Bool { proof?.proof.covers(host: name, incarnation: incarnation) ?? false }

    /// What ran there with leases that are lost, and is not known to be over.
    var stuck: [String] { (unreaped + (unproven ?? [])).sorted() }

    var hasLife: Bool { incarnation > baseIncarnation }

    /// S10: of each device that acts now, its own identity is what the host reads in-band, or an operator vouched.
    var deviceVerified: Bool { !levelDevices.isEmpty && levelDevices.allSatisfy { isOwn($0) == true } }

    /// One of the devices that act now is known to be another machine's.
    var deviceIsForeign: Bool { levelDevices.contains { isOwn($0) == false } }

    /// Whether the device is this machine's; `nil`: nobody can tell.
    func isOwn(_ index: Int) -> Bool? { definition.fence[index].vouched == true ? true : tellsOwn(index) }

    /// A device of another level that tells itself that it is this machine's, and read on when it was asked last. What an outlet reads says nothing of the machine behind it.
    var contradiction: FenceDevice? {
        let others = definition.fence.indices.filter { !levelDevices.contains($0) && reads?[$0] == .on && tellsOwn($0) == true }
        return others.first.map { definition.fence[$0] }
    }

    /// What the device itself says of that.
    private func tellsOwn(_ index: Int) -> Bool? {
        if case .guid(let guid) = trust(index), let hardwareID { return HardwareIdentity.same(guid, hardwareID) }
        return nil
    }

    /// Lockspaces whose leases the newest proof does not cover although this host joined them.
    func uncovered(by proof: Proof?) -> [String] {
        highestGenerations.keys.sorted().filter { lockspace in
            guard let covered = proof?.generations[lockspace] else { return true }
            return covered < highestGenerations[lockspace, default: 0]
        }
    }

    mutating func nextNumber() -> UInt64 {
        counter += 1
        return counter
    }
}

/// A host that was forgotten (S20).
struct Tombstone: Codable, Hashable, Sendable {
    var name: String
    var id: Int
    var key: String?
    var hardwareID: String?
    var incarnation: Incarnation
    var boots: [String]
    /// Its last life was proven over: its id may be given to another host.
    var proven: Bool
    /// Where its ``HostRecord/counter`` left off: proxies remember the numbers of runs under a name.
    var counter: UInt64?
}

/// What an operator asked of a host's power, step by step.
struct PowerCommand: Codable, Hashable, Sendable {
    var request: RequestID
    var verb: PowerVerb
    /// Actions that are still to be run; the first one runs now.
    var steps: [FenceAction]
    /// Of a rehearsal: what the devices of the levels so far have told.
    var rehearsed: [Rehearsal.Device]?
    /// Of a rehearsal: the ways that are still to be tried, one for each step; `nil`: the levels in turn.
    var ways: [Rehearsal.Way]?
    var tried: [Rehearsal.Way]?
    /// Of a rehearsal: it ends with the run that is under way, for this reason.
    var cutShort: String?
}

/// A `host.forget` of a host that may have run guests.
struct Forgetting: Codable, Hashable, Sendable {
    var request: RequestID
    var reason: String
}

/// A `host.confirm-off` that waits for the other hosts' view of the suspect's renewals.
struct PendingConfirmation: Codable, Hashable, Sendable {
    var request: RequestID
    var body: ConfirmOff
    var serial: UInt64
    var readers: [String]
    var answered = 0
    var generations: [String: UInt64] = [:]
}
