import HostAgentEngine
import Messages
import Testing

/// A host as it really is, beside what its agent believes: throws when an effect would break a promise.
private struct ModelHost {
    /// Guards whose payload may run, and what they have come to.
    enum Life { case acquiring, running, ended, refused, killed }
    var guards: [Holder: Life] = [:]
    /// Ended, and its storage has not answered since.
    var unquiet: Set<Holder> = []
    /// Attempts of which somebody was told that they are over.
    var declaredOver: Set<Holder> = []
    var pendingProofs: [(Holder, Proof)] = []
    var pendingQuiesces: [Holder] = []

    /// What a look at every process finds.
    var processes: AgentInput {
        .scanned(guards.keys.filter { guards[$0] == .running }.sorted { $0.description < $1.description }.map { ScannedGuest(vm: $0.name, pid: 1) })
    }

    func lives(_ holder: Holder) -> Bool { guards[holder] == .acquiring || guards[holder] == .running }

    mutating func check(_ effects: [Effect<AgentAction>]) {
        for effect in effects {
            switch effect {
            case .perform(.spawn(let spec)):
                let others = guards.keys.filter { $0.role == spec.holder.role && $0.name == spec.holder.name && (lives($0) || unquiet.contains($0)) }
                #expect(others.isEmpty, "\(spec.holder) beside \(others)")
                #expect(!declaredOver.contains(spec.holder), "\(spec.holder) starts although it was declared over")
                guards[spec.holder] = .acquiring
            case .perform(.sign(let holder, let proof)):
                pendingProofs.append((holder, proof))
                expectOver(holder)
            case .perform(.quiesce(let holder, _)):
                pendingQuiesces.append(holder)
            case .reply(_, .success(let body)):
                guard let observation = body as? VMObservation, observation.state == .stopped else { continue }
                let holder = Holder(role: .vm, name: observation.vm, attempt: observation.attempt)
                #expect(!lives(holder), "\(holder) is said to be stopped and runs")
                if observation.ended != nil { expectOver(holder) }
                declaredOver.insert(holder)
            case .publish(let event):
                guard let vms = event.body as? AgentVMs else { continue }
                for vm in vms.vms where vm.state == .stopped { #expect(!lives(Holder(role: .vm, name: vm.vm, attempt: vm.attempt))) }
                for guest in guards.keys where vms.complete && lives(guest) { #expect(vms.vms.contains { $0.vm == guest.name }, "\(guest) runs and is not listed") }
            default:
                break
            }
        }
    }

    private mutating func expectOver(_ holder: Holder) {
        #expect(!lives(holder), "\(holder) is proven over and runs")
        #expect(!unquiet.contains(holder), "\(holder) is proven over before its storage answered")
        declaredOver.insert(holder)
    }

    /// What the shell would see.
    func sighting(of holder: Holder) -> GuardSighting {
        switch guards[holder] {
        case .acquiring: .acquiring
        case .running: .running(pid: 1, lver: 1, paused: false)
        case .ended: .ended(exit: "signal 9", why: "")
        case .refused: .refused(code: "lease.held", message: "")
        case .killed, nil: .gone(evidence: "lock free, no process")
        }
    }
}

/// Never two attempts of one VM, never a start of what was declared over, never a stopped without evidence: over starts, stops, observations, ends of every kind, restarts and reboots.
@Test(arguments: 0..<150 as Range<UInt64>) func oneAttemptAtATimeWhateverHappens(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    var bench = EngineBench()
    var host = ModelHost()
    var boot = 1
    func holder(_ random: inout SplitMix64) -> Holder {
        Holder(role: .vm, name: ["a", "b"][Int.random(in: 0...1, using: &random)], attempt: UInt64.random(in: 1...12, using: &random))
    }
    for _ in 0..<400 {
        let picked = holder(&random)
        let known = host.guards.keys.sorted { $0.description < $1.description }.randomElement(using: &random)
        switch Int.random(in: 0...14, using: &random) {
        case 0...3: host.check(bench.start(picked.name, picked.attempt))
        case 4: host.check(bench.stop(picked.name, picked.attempt))
        case 5: host.check(bench.observe(picked.name, picked.attempt))
        case 6, 7:
            guard let known else { continue }
            if host.guards[known] == .acquiring { host.guards[known] = .running }
            host.check(bench.send(.sighted(known, host.sighting(of: known))))
        case 8:
            guard let known, host.lives(known) else { continue }
            if host.guards[known] == .acquiring {
                host.guards[known] = .refused
            } else {
                host.guards[known] = Bool.random(using: &random) ? .ended : .killed
                host.unquiet.insert(known)
            }
            if Bool.random(using: &random) { host.check(bench.send(.sighted(known, host.sighting(of: known)))) }
        case 9:
            guard let known, host.lives(known) else { continue }
            host.check(bench.send(.sighted(known, .unclear(evidence: "silent"))))
        case 10:
            guard let quiet = host.pendingQuiesces.popLast() else { continue }
            host.unquiet.remove(quiet)
            host.check(bench.send(.quiesced(quiet)))
        case 11:
            guard let (signer, proof) = host.pendingProofs.popLast() else { continue }
            host.check(bench.send(.signed(signer, EngineBench.signed(proof))))
        case 12, 13:
            try bench.restart()
            host.pendingProofs = []
            host.pendingQuiesces = []
            if Int.random(in: 0...3, using: &random) == 0 {
                boot += 1
                for guest in host.guards.keys where host.lives(guest) { host.guards[guest] = .killed }
                host.unquiet = []
            }
            host.check(bench.start(boot: "boot\(boot)"))
            if Bool.random(using: &random) { host.check(bench.send(host.processes)) }
        case 14: host.check(bench.send(host.processes))
        default: break
        }
    }
}
