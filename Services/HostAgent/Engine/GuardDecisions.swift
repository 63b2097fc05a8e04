public import Messages

/// What became of a guard that cannot be asked, from what is found where it was: its lock first, then its result, then its spec, then every process.
public enum GuardExamination: Hashable, Sendable {
    case seen(GuardSighting)
    /// The lock is held by the examiner, and there is no result: remove the spec, then look at every process (``afterCallingOff(specIsGone:processes:)``), before the lock is let go.
    case callOff

    /// What a look at every process found.
    public enum Processes: Hashable, Sendable {
        case none
        case guest(pid: Int32)
        /// Not everything could be looked at.
        case gap(String)
    }

    /// With the run's lock in hand nothing of it lives (everything it started inherits that lock), and its start is called off for ever: its guard looks for the spec under the same lock.
    ///
    /// - Parameters:
    ///   - lockTaken: whether the examiner holds the run's lock.
    ///   - result: what the guard has left.
    public static func conclusion(lockTaken: Bool, result: GuardMessage?) -> GuardExamination {
        let said = result.flatMap(sighting)
        if lockTaken { return said.map { .seen($0) } ?? .callOff }
        // Held by a guard that still breathes, or by another run that turned this one away.
        if let said, case .refused = said { return .seen(said) }
        return .seen(.unclear(evidence: "its lock is held, but its guard does not answer"))
    }

    /// - Parameter processes: `nil` for a run without a guest, which has no mark to look for.
    public static func afterCallingOff(specIsGone: Bool, processes: Processes?) -> GuardSighting {
        guard specIsGone else { return .unclear(evidence: "its lock is free, but its start cannot be called off: its spec cannot be removed") }
        return switch processes {
        case nil: .gone(evidence: "its guard left no result; its lock, which all it started would hold, is free")
        case .guest(let pid): .unclear(evidence: "its lock is free, but process \(pid) has its uuid")
        case .gap(let gap): .unclear(evidence: "its lock is free, but not every process could be looked at: \(gap)")
        case .some(.none): .gone(evidence: "its guard left no result; its lock, which all it started would hold, is free and no process has its uuid")
        }
    }

    private static func sighting(_ result: GuardMessage) -> GuardSighting? {
        switch result.verb {
        case "ended": .ended(exit: result["exit"] ?? "", why: result["why"] ?? "")
        case "refused": .refused(code: result["code"] ?? AgentErrorCode.startFailed.rawValue, message: result["message"] ?? "no reason given")
        default: nil
        }
    }
}

/// Whether a guard is started.
public enum GuardLaunch: Hashable, Sendable {
    /// Write its spec, then start it; it is watched with ``patience``.
    case start
    /// A guard of this very attempt was started before, which this agent has forgotten: it is only watched, without patience.
    case wasThere
    /// Nothing is started.
    case refused(GuardSighting)

    /// How long a guard that was just started may take to hold its lock.
    public static let patience = Duration.seconds(5)

    /// - Parameters:
    ///   - filesAreThere: whether a spec or a result of this attempt is there.
    ///   - guest: the process with this VM's uuid; looked for only if the files are not there. A gap in that look is no reason: the locks are what keeps two guests apart.
    public static func decision(vm: String, filesAreThere: Bool, guest: Int32?) -> GuardLaunch {
        if filesAreThere { return .wasThere }
        if let guest { return failed(.stillHere, "process \(guest) of \(vm) runs on this host") }
        return .start
    }

    public static func failed(_ code: AgentErrorCode, _ message: String) -> GuardLaunch { .refused(.refused(code: code.rawValue, message: message)) }

    /// Whether a start of `next` removes what this attempt left. The attempt just before stays: people may want to read that.
    public static func removesFiles(of old: Holder, before next: Holder) -> Bool {
        old.subject == next.subject && old.attempt < next.attempt && next.attempt - old.attempt > 1
    }
}

/// Which VMs run here unknown to this agent.
public struct GuestSearch: Hashable, Sendable {
    /// Live guests that every process was looked at for.
    public let guests: [ScannedGuest]
    /// VMs whose lock is to be tested: their lock file is there, and neither a guest nor a guard of theirs is known.
    ///
    /// Testing takes the lock for a moment, which would turn away a guard that is being started: those are left out.
    public let suspects: [String]

    /// - Parameters:
    ///   - lockFiles: names of the files in the host's lock directory.
    ///   - known: VMs whose guards are watched or being started.
    public init(guests: [ScannedGuest], lockFiles: [String], known: Set<String>) {
        self.guests = guests
        let seen = known.union(guests.map(\.vm))
        suspects = lockFiles.sorted().compactMap { file in
            guard file.hasPrefix("vm-"), file.hasSuffix(".lock") else { return nil }
            let vm = String(file.dropFirst(3).dropLast(5))
            return seen.contains(vm) ? nil : vm
        }
    }

    /// A process that is ending shows no command line any more, but keeps its locks until its last thread is gone.
    ///
    /// - Parameter held: those suspects whose lock is held.
    public func found(held: [String]) -> [ScannedGuest] { guests + held.map { ScannedGuest(vm: $0, pid: nil) } }
}
