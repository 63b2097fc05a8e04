public import Messages

/// One run: this attempt of this VM (or this term of this pool's SPM role) on this boot of this host.
public struct Run: Hashable, Codable, Sendable, CustomStringConvertible {
    public var host: String
    public var boot: String
    public var holder: Holder

    public init(host: String, boot: String, holder: Holder) {
        self.host = host
        self.boot = boot
        self.holder = holder
    }

    public static func vm(_ name: String, _ attempt: UInt64, host: String, boot: String) -> Run {
        Run(host: host, boot: boot, holder: Holder(role: .vm, name: name, attempt: attempt))
    }

    public static func spm(_ pool: String, term: UInt64, host: String, boot: String) -> Run {
        Run(host: host, boot: boot, holder: Holder(role: .spm, name: pool, attempt: term))
    }

    public var description: String { "\(holder) on \(host)" }
}

/// Who a lease belongs to, as its leader sector says.
public struct LeaseOwner: Hashable, Codable, Sendable {
    public var host: String
    public var generation: UInt64
    public var lver: UInt64
    /// It owns it only until its share is entered, or may: who wrote it for another cannot say.
    public var isSharing: Bool

    public init(host: String, generation: UInt64, lver: UInt64, isSharing: Bool = false) {
        self.host = host
        self.generation = generation
        self.lver = lver
        self.isSharing = isSharing
    }
}

/// Why a guest ended.
public enum EndCause: Hashable, Codable, Sendable {
    /// Its agent was told to (`vm.stop`): judged by what the operator wants.
    case command
    /// Its start failed, and the agent ended again what there was of it.
    case startFailed
    /// Its guard's deadline passed.
    case deadline
    /// Its leases were refused or declared lost by its lease-service.
    case leaseLost
    /// An I/O error had paused it for longer than its definition allows.
    case ioError
    /// The guest ended by itself: shutdown, crash, a fault of the hypervisor.
    case guest
    /// Somebody killed it or its guard.
    case killed
    /// Its host was asked to shut down.
    case hostShutdown
    /// The machine lost power or rebooted.
    case power
    /// Nothing but the restart of this process.
    case restart(of: String)
    /// None that anybody can name.
    case none
    /// The source of the facts cannot tell: not judged.
    case unknown
}

public enum PowerAction: String, Codable, Sendable { case on, off }

/// Who wants a host's power switched, and on what ground.
public enum PowerCause: Hashable, Codable, Sendable {
    /// A person asked for it.
    case operatorAsked
    /// Fence case with this id.
    case fenceCase(String)
    /// Nothing runs there, and it is not needed; or it is again.
    case saving
    case none
}

/// Why a fence case was opened.
public enum CaseCause: String, Codable, Sendable {
    case silent, unreaped, nonOperational, operatorAsked, proofRevoked, shutDown, toolstackLost
    /// The source of the facts cannot tell.
    case unknown
}

/// Something that an operator may be promised: a property of an object, and the value asked for.
public struct Promise: Hashable, Codable, Sendable {
    /// Such as `vm/web1 wanted`.
    public var object: String
    public var value: String
    /// What is promised with it.
    public var implied: [Promise]

    public init(_ object: String, _ value: String, implied: [Promise] = []) {
        self.object = object
        self.value = value
        self.implied = implied
    }

    public static func defined(vm: String) -> Promise { Promise("vm/\(vm) definition", "defined") }
    /// Nobody wants a removed VM to run; one that is defined anew under its name is wanted only when it is started.
    public static func removed(vm: String) -> Promise { Promise("vm/\(vm) definition", "removed", implied: [.wanted(vm: vm, false)]) }
    public static func wanted(vm: String, _ isWanted: Bool) -> Promise { Promise("vm/\(vm) wanted", isWanted ? "up" : "down") }
    public static func registered(host: String, _ isRegistered: Bool) -> Promise { Promise("host/\(host) registered", isRegistered ? "yes" : "no") }
    public static func maintenance(host: String, _ isWanted: Bool) -> Promise { Promise("host/\(host) maintenance", isWanted ? "yes" : "no") }
    public static func maintenance(domain: String, _ isWanted: Bool) -> Promise { Promise("domain/\(domain) maintenance", isWanted ? "yes" : "no") }
    public static func held(_ isHeld: Bool) -> Promise { Promise("ha hold", isHeld ? "yes" : "no") }
    public static func enabled(_ isEnabled: Bool) -> Promise { Promise("ha enabled", isEnabled ? "yes" : "no") }
}

/// What happened, as far as it matters for the promise (I1-I7).
///
/// Facts are said by a source that knows them to be true: the simulator, which sees everything, or the event stream of a live cluster, which knows less and says less.
/// The order of facts is the order in which they became true. A source that cannot know a kind of fact never says it, and what rests on it is not judged.
public enum Fact: Hashable, Codable, Sendable {
    // MARK: Machines

    /// fencing-service gave this boot its number. A run's ``startSent(_:_:)`` says it too.
    case bootNumbered(host: String, boot: String, Incarnation)
    /// The machine went off or rebooted: nothing of this boot runs any more. Freezing is not ending.
    case bootEnded(host: String, boot: String)
    /// fencing-service, alive, took in a heartbeat of this host. Every one, or at least one in each heartbeat interval.
    case hostHeard(host: String, boot: String)
    /// What controls its hypervisor works, or does not any more; until it is said, it works.
    case toolstack(host: String, works: Bool)
    /// A power command left fencing-service for the host's device.
    case powerCommanded(host: String, PowerAction, PowerCause)
    /// A command that had left fencing-service then reaches the host's device only now, through whoever runs its fence agent.
    case deviceCommanded(host: String, PowerAction, sent: Instant)
    /// fencing-service says that the host is Up.
    case hostUp(String)
    case caseOpened(String, host: String, CaseCause)
    case caseClosed(String, host: String)
    /// A service began a new life: it knows what its journal says, and has heard nothing yet.
    case serviceStarted(String)

    // MARK: Runs

    /// `vm.start` or `spm.start` left its service, the first time or again.
    case startSent(Run, Incarnation)
    /// The agent's final word that nothing of this attempt is left and nothing will come of it: a failed start, a complete report without it.
    case saidOver(Run)
    /// The guest's process exists. `writes`: the disks that it may write; `leases`: what its guard was granted, empty for a guest without leases.
    case guestBegan(Run, writes: [String], leases: [GuardLease])
    case guestEnded(Run, EndCause)
    /// A run that was said to have ended lives after all. For sources that can err; the simulator never says it.
    case outlived(Run, writes: [String])
    /// A write of this run reached the disk (its image uuid), perhaps long after the run.
    case writeLanded(Run, disk: String)
    /// The host serves as SPM by this lease (SDM).
    case workerBegan(Run, lease: GuardLease)
    /// Nothing of the worker's process group is left.
    case workerEnded(Run)
    /// A storage result became visible, by this worker. `what` is said once for each result.
    case published(Run, lver: UInt64, what: String)
    /// A program that is no guest uses what this lease guards from now on, in the way that its guard was granted. Said again when it is granted otherwise.
    case leaseUsed(Run, GuardLease, writes: [String])
    /// It does not any more.
    case leaseUnused(Run)
    /// Who holds a lease alone asked for this number, higher than all before, to be kept beside it; was told that it is; read what is kept.
    case valueAsked(LeaseName, Run, UInt64)
    case valueWritten(LeaseName, Run, UInt64)
    case valueRead(LeaseName, Run, UInt64)
    /// Its whole area was written: what was kept beside it is gone.
    case leaseMade(LeaseName)

    // MARK: Leases and proofs

    /// The leader sector on the storage says so now; `nil`: free.
    case leaseChanged(LeaseName, LeaseOwner?)
    case proofMade(Proof)
    case proofRevoked(Proof)

    // MARK: What was acknowledged

    /// A request was sent that would change this.
    case asked(RequestID, Promise)
    /// Its success was answered.
    case acknowledged(RequestID)
    /// It was refused: it changes nothing, ever.
    case refused(RequestID)
    /// This is what the owner shows, for instance after a restart.
    case found(Promise)
    /// Something that must happen once (a name for it) was begun, and is completed.
    case effectBegan(String)
    case effectDone(String)
}
