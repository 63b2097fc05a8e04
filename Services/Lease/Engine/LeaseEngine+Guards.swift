import LeaseFormat
import Messages

/// The guard of one holder, as it is connected now.
struct GuardLink: Sendable {
    var connection: UInt64?
    /// What it asked for, until its job begins.
    var request: GuardRequest?
    /// It asked for adoption, and a membership is still being taken up.
    var isAdopting = false
    /// Until when it waits for leases that others hold.
    var waitUntil: Instant?
}

/// An `acquire` that cannot begin yet.
struct ParkedRequest: Sendable {
    var connection: UInt64
    var request: GuardRequest
    var until: Instant
    var waitUntil: Instant?
}

extension LeaseEngine {
    // MARK: Acquire

    mutating func onAcquire(_ connection: UInt64, _ request: GuardRequest) -> Effects {
        var request = request
        request.leases.sort { $0.name < $1.name }
        guard !request.leases.isEmpty, Set(request.leases.map(\.name)).count == request.leases.count else {
            return [refusal(connection, RequestError(RequestErrorCode.invalid, "a guard asks for at least one lease, and for each once"))]
        }
        if let grant = grants[request.holder] {
            switch grant.state {
            case .releasing:
                // What an earlier try left is being taken back: wait for that.
                break
            case .granted:
                return onAdopt(connection, GuardRequest(holder: request.holder, lock: request.lock, diskLocks: request.diskLocks, leases: grant.leases))
            case .acquiring:
                links[request.holder] = GuardLink(connection: connection, request: request, waitUntil: request.wait.map { now + $0 })
                return jobs.values.contains(where: { $0.isAcquire(of: request.holder) }) ? askAgain(request.holder) : startAcquire(request.holder, again: true)
            }
        }
        parked.removeAll { $0.request.holder == request.holder }
        let waitUntil = request.wait.map { now + $0 }
        if let obstacle = obstacle(for: request, behind: parked) {
            guard obstacle.mayPass else { return [refusal(connection, obstacle.error)] }
            let patience = now + obstacle.patience
            parked.append(ParkedRequest(connection: connection, request: request, until: max(patience, waitUntil ?? patience), waitUntil: waitUntil))
            return []
        }
        return intend(connection, request, waitUntil: waitUntil)
    }

    private mutating func intend(_ connection: UInt64, _ request: GuardRequest, waitUntil: Instant?) -> Effects {
        links[request.holder] = GuardLink(connection: connection, request: request, waitUntil: waitUntil)
        let grant = Grant(
            holder: request.holder, bootID: host.bootID, lock: request.lock, diskLocks: request.diskLocks,
            leases: request.leases.map { GuardLease(name: $0.name, mode: $0.mode) }, state: .acquiring)
        // In memory at once: the next request must see it (S3).
        grants[request.holder] = grant
        return [.perform(.note(.grant(grant)))]
    }

    private struct Obstacle {
        var error: RequestError
        var mayPass: Bool
        var patience: Duration = .seconds(3)
    }

    /// What keeps a guard from its leases on this host alone. Those who wait longer for one of them come first.
    private func obstacle(for request: GuardRequest, behind waiting: [ParkedRequest]) -> Obstacle? {
        let locks = [request.lock] + request.diskLocks
        let others = grants.values.filter { grant in
            (grant.holder != request.holder || grant.state == .releasing)
                && (grant.leases.contains { lease in request.leases.contains { $0.name == lease.name } } || locks.contains(grant.lock) || grant.diskLocks.contains(where: locks.contains))
        }
        for grant in sorted(others) {
            let lease = grant.leases.first { lease in
                let together = grant.state == .granted && lease.mode == .shared && !isConverting(grant.holder)
                return request.leases.contains { $0.name == lease.name && !(together && $0.mode == .shared) }
            }
            if let what = lease.map({ "lease \($0.name.resource)" }) ?? grant.locks.first(where: locks.contains) {
                // The other guard may have died a moment ago: its connection or its locks tell soon.
                return Obstacle(
                    error: RequestError(LeaseErrorCode.heldHere, "\(grant.holder) on this host has \(what)", details: ["holder": grant.holder.description]),
                    mayPass: true)
            }
        }
        for other in waiting.map(\.request) {
            let lease = other.leases.first { lease in request.leases.contains { $0.name == lease.name && !($0.mode == .shared && lease.mode == .shared) } }
            if let lease {
                return Obstacle(
                    error: RequestError(
                        LeaseErrorCode.heldHere, "\(other.holder) on this host has been waiting longer for lease \(lease.name.resource)", details: ["holder": other.holder.description]),
                    mayPass: true)
            }
        }
        for lease in request.leases {
            if let closed = closure(lease.name.lockspace) { return Obstacle(error: closed, mayPass: false) }
            guard let membership = memberships[lease.name.lockspace], membership.record.wanted else {
                return Obstacle(error: RequestError(LeaseErrorCode.notJoined, "this host has not joined lockspace \(lease.name.lockspace)"), mayPass: false)
            }
            guard membership.isJoined else {
                return Obstacle(
                    error: RequestError(LeaseErrorCode.notJoined, "lockspace \(lease.name.lockspace) is \(membership.state.rawValue): \(membership.reason)"),
                    mayPass: membership.mayAdopt, patience: .seconds(10))
            }
            if let expected = request.generations[lease.name.lockspace], expected != membership.record.generation {
                return Obstacle(error: mismatch(lease.name.lockspace, expected: expected, is: membership.record.generation), mayPass: false)
            }
            if let clash = watchdogClash(membership) { return Obstacle(error: clash, mayPass: false) }
        }
        return unarmedWatchdog.map { Obstacle(error: $0, mayPass: true, patience: .seconds(15)) }
    }

    func mismatch(_ lockspace: String, expected: UInt64, is generation: UInt64) -> RequestError {
        RequestError(
            LeaseErrorCode.generationMismatch, "the run was planned for generation \(expected) of \(lockspace), this host is at \(generation) now",
            details: ["expected": String(expected), "generation": String(generation)])
    }

    mutating func tickParked() -> Effects {
        var effects = Effects()
        let waiting = parked
        parked = []
        for waiting in waiting {
            let obstacle = obstacle(for: waiting.request, behind: parked)
            if let obstacle, obstacle.mayPass, now < waiting.until {
                parked.append(waiting)
                continue
            }
            effects += obstacle.map { [refusal(waiting.connection, $0.error)] } ?? intend(waiting.connection, waiting.request, waitUntil: waiting.waitUntil)
        }
        return effects
    }

    func refusal(_ connection: UInt64, _ error: RequestError) -> Effect<LeaseAction> {
        .perform(.tell(connection: connection, GuardMessage("refused", [("code", error.code), ("message", error.message)])))
    }

    // MARK: Adopt, release

    mutating func onAdopt(_ connection: UInt64, _ request: GuardRequest) -> Effects {
        guard let grant = grants[request.holder] else {
            return [refusal(connection, RequestError(LeaseErrorCode.lost, "nothing is recorded for \(request.holder)"))]
        }
        links[grant.holder] = GuardLink(connection: connection, isAdopting: true)
        if grant.state == .releasing { return [] }
        guard grant.state == .granted, isOf(grant, request.leases.sorted { $0.name < $1.name }) else {
            links[grant.holder] = nil
            nextLockTest = now
            return [refusal(connection, RequestError(LeaseErrorCode.lost, "\(request.holder) was granted other leases than it names"))]
        }
        return answerAdoptions()
    }

    /// What a guard names is what it was granted, but for conversions whose answer it did not get.
    private func isOf(_ grant: Grant, _ leases: [GuardLease]) -> Bool {
        grant.leases.count == leases.count && zip(grant.leases, leases).allSatisfy { now, then in
            now.name == then.name && now.generation == then.generation && (now.lver == then.lver || now.mode != then.mode)
        }
    }

    /// Answers guards that came back, as far as their memberships are decided.
    mutating func answerAdoptions() -> Effects {
        var effects = Effects()
        for grant in sortedGrants where grant.state == .granted {
            guard let link = links[grant.holder], link.isAdopting, let connection = link.connection else { continue }
            if let deadline = deadline(of: grant), now < deadline {
                links[grant.holder]?.isAdopting = false
                effects.append(granted(grant, connection, deadline))
            } else if !grant.leases.contains(where: { memberships[$0.name.lockspace]?.mayAdopt == true }) {
                links[grant.holder]?.isAdopting = false
                effects.append(refusal(connection, RequestError(LeaseErrorCode.lost, "the membership these leases belong to is lost")))
            }
        }
        return effects
    }

    mutating func onRelease(_ connection: UInt64, _ holder: Holder) -> Effects {
        guard let grant = grants[holder] else {
            return [.perform(.tell(connection: connection, GuardMessage("released")))]
        }
        links[holder] = GuardLink(connection: connection)
        return giveBack(grant, why: "its guard gave it back")
    }

    mutating func onDisconnected(_ connection: UInt64) -> Effects {
        parked.removeAll { $0.connection == connection }
        for (holder, link) in links where link.connection == connection {
            links[holder]?.connection = nil
            nextLockTest = now
        }
        return []
    }

    /// A holder without connection whose locks are all free has no process left (S3).
    mutating func onLocksTested(_ holder: Holder, free: Bool) -> Effects {
        guard free, let grant = grants[holder], links[holder]?.connection == nil, grant.state != .releasing else { return [] }
        return giveBack(grant, why: "its guard is gone and its locks are free")
    }

    /// Frees what a holder had, once no ballot of it is under way.
    mutating func giveBack(_ grant: Grant, why: String) -> Effects {
        guard grant.state != .releasing else { return [] }
        for id in jobs.keys.sorted() where jobs[id]?.isAcquire(of: grant.holder) == true {
            if case .acquire(var work)? = jobs[id]?.work {
                work.cancelled = work.cancelled ?? RequestError(LeaseErrorCode.heldHere, why)
                jobs[id]?.work = .acquire(work)
                jobs[id]?.wakeAt = nil
                return []
            }
            if cancelTake(id, of: grant.holder, RequestError(LeaseErrorCode.heldHere, why)) { return [] }
        }
        var releasing = grant
        releasing.state = .releasing
        grants[grant.holder] = releasing
        return [.perform(.note(.grant(releasing)))]
    }

    mutating func testLocks() -> Effects {
        guard let nextLockTest, now >= nextLockTest else { return [] }
        let orphans = sorted(grants.values.filter { $0.state != .releasing && links[$0.holder]?.connection == nil })
        self.nextLockTest = orphans.isEmpty ? nil : now + .milliseconds(500)
        return orphans.map { .perform(.testLocks($0.holder, $0.locks)) }
    }

    // MARK: Facts

    mutating func onGrantNoted(_ grant: Grant) -> Effects {
        switch grant.state {
        case .acquiring:
            return startAcquire(grant.holder)
        case .granted:
            if let effects = converted(grant) { return effects }
            guard let connection = links[grant.holder]?.connection else { return [] }
            let events: Effects = grant.leases.map { .publish(event("lease.acquired", grant, $0, reason: "granted")) }
            guard let deadline = deadline(of: grant), now < deadline else {
                return events + [refusal(connection, RequestError(LeaseErrorCode.lost, "the membership was lost while the leases were taken"))] + giveBack(grant, why: "lost")
            }
            return events + [granted(grant, connection, deadline)]
        case .releasing:
            if let effects = beginRemoval(of: grant) { return effects }
            return startRelease(grant).map { wakeJob($0) } ?? []
        }
    }

    mutating func onEndNoted(_ grant: Grant) -> Effects {
        for lease in grant.leases {
            passedOn[lease.name]?.remove(grant.holder)
            if passedOn[lease.name]?.isEmpty == true { passedOn[lease.name] = nil }
        }
        let link = links.removeValue(forKey: grant.holder)
        let told: Effects = link?.connection.map { [.perform(.tell(connection: $0, GuardMessage("released")))] } ?? []
        return told + grant.leases.filter { $0.lver > 0 }.map { .publish(event("lease.released", grant, $0, reason: "given back")) }
    }

    // MARK: Deadlines

    /// The earliest end of the memberships that a grant rests on; `nil` if one of them is not what it was.
    func deadline(of grant: Grant) -> Instant? {
        var earliest: Instant?
        for lease in grant.leases {
            guard let membership = memberships[lease.name.lockspace], membership.record.generation == lease.generation, let deadline = membership.deadline else { return nil }
            earliest = min(earliest ?? deadline, deadline)
        }
        return earliest
    }

    func tellDeadlines(_ lockspace: String) -> Effects {
        sortedGrants.compactMap { grant in
            guard grant.state == .granted, let link = links[grant.holder], let connection = link.connection, !link.isAdopting,
                grant.leases.contains(where: { $0.name.lockspace == lockspace }), let deadline = deadline(of: grant)
            else { return nil }
            return .perform(.tell(connection: connection, GuardMessage("deadline", [("deadline", String(deadline.nanoseconds))])))
        }
    }

    mutating func onLost(_ lockspace: String, _ why: String) -> Effects {
        var effects = Effects()
        for grant in sortedGrants where grant.state != .releasing && grant.leases.contains(where: { $0.name.lockspace == lockspace }) {
            if grant.state == .acquiring {
                effects += giveBack(grant, why: "lockspace \(lockspace) was lost: \(why)")
                continue
            }
            effects += grant.leases.filter { $0.name.lockspace == lockspace }.map { .publish(event("lease.lost", grant, $0, reason: why)) }
            if let link = links[grant.holder], let connection = link.connection, !link.isAdopting {
                effects.append(.perform(.tell(connection: connection, GuardMessage("lost", [("message", why)]))))
            }
        }
        nextLockTest = now
        return effects + answerAdoptions()
    }

    func granted(_ grant: Grant, _ connection: UInt64, _ deadline: Instant, as verb: String = "granted", also: [(String, String)] = []) -> Effect<LeaseAction> {
        let ioTimeout = grant.leases.compactMap { memberships[$0.name.lockspace]?.ioTimeout }.max().map { [("iotimeout", String($0))] } ?? []
        return .perform(.tell(
            connection: connection,
            GuardMessage(verb, [("deadline", String(deadline.nanoseconds))] + grant.leases.map { ("lease", $0.grant) } + ioTimeout + also)))
    }

    func event(_ type: String, _ grant: Grant, _ lease: GuardLease, reason: String) -> Event {
        Event(
            type, subject: lease.name.resource,
            body: LeaseEvent(lease: lease.name, holder: grant.holder.description, lver: lease.lver, generation: lease.generation, reason: reason))
    }
}

extension Job {
    func isAcquire(of holder: Holder) -> Bool {
        guard self.holder == holder else { return false }
        return switch work {
        case .acquire, .take: true
        default: false
        }
    }

    func isRelease(of holder: Holder) -> Bool {
        guard self.holder == holder else { return false }
        return switch work {
        case .release, .drop: true
        default: false
        }
    }
}
