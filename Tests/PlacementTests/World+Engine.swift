import Foundation
import Messages

@testable import PlacementEngine

/// The engine's side of the model: what it is fed, and what it is held to.
extension World {
    func copy(_ engine: PlacementEngine) throws -> PlacementEngine {
        try JSONDecoder().decode(PlacementEngine.self, from: JSONEncoder().encode(engine))
    }

    mutating func feed(_ input: PlacementEngine.Input) throws {
        if case .fencing = input { synced = true }
        let before = engine
        let effects = engine.handle(input, at: now)
        let quiet = effects.allSatisfy { if case .wake = $0 { true } else { false } }
        if case .wake = input, quiet {
            if engine != before { throw Broken("a wake that led to nothing changed the state: replay would differ") }
        } else {
            journal.append((input, now))
        }
        for effect in effects {
            switch effect {
            case .wake(let at):
                if at <= now { throw Broken("asked for a wake in the past") }
                if wakes.insert(at).inserted { schedule(.wake, after: at - now) }
            case .perform(let action): try perform(action)
            case .decide(let decision): decisions.append(decision)
            case .publish, .reply: break
            }
        }
    }

    private mutating func perform(_ action: PlacementEngine.Action) throws {
        switch action {
        case .createVolume(let vm, _, let id), .createLease(let vm, _, let id):
            let codes: [RequestError?] = [
                nil, RequestError(RequestErrorCode.unknownOutcome, "no reply"), RequestError(SPMErrorCode.noSPM, "nobody serves"),
            ]
            schedule(.toEngine(.prepared(vm: vm, id: id, chance(20) ? codes[Int(random.next() % 3)] : nil), epoch: epoch), after: delay(200))
        case .start(let target, let start, let id):
            try check(start, to: target)
            starts += 1
            inFlight[id] = (target, start.vm.name, start.attempt)
            // Sent again and again; the last copy may arrive long after the answer was given up.
            let copies = chance(30) ? 3 : 1
            for copy in 0..<copies {
                let late = chance(10) ? delay(30_000) : delay(500)
                schedule(.toAgent(target, .start(start), id: id, last: copy == copies - 1 && copies == 1), after: late)
            }
            if copies > 1 { schedule(.toAgent(target, .start(start), id: id, last: true), after: .seconds(31)) }
            giveUp(start.vm.name, id, after: .seconds(8))
        case .stop(let target, let order, let id):
            schedule(.toAgent(target, .stop(order), id: id, last: false), after: delay(500))
            giveUp(order.vm, id, after: .seconds(3))
        case .observe(let target, let order, let id):
            if !chance(20) { schedule(.toAgent(target, .observe(order), id: id, last: false), after: delay(500)) }
            giveUp(order.vm, id, after: .seconds(3))
        case .powerDown(let request, let id), .powerUp(let request, let id):
            schedule(.toEngine(.powered(host: request.host, id: id, RequestError(RequestErrorCode.conflict, "not now")), epoch: epoch), after: delay(500))
        case .resume(let target, let order, let id):
            schedule(.toAgent(target, .resume(order), id: id, last: false), after: delay(500))
            giveUp(order.vm, id, after: .seconds(30))
        }
    }

    private mutating func giveUp(_ vm: String, _ id: RequestID, after: Duration) {
        schedule(.toEngine(.answered(vm: vm, id: id, .failed(RequestError(RequestErrorCode.unknownOutcome, "no reply"))), epoch: epoch), after: after)
    }

    /// The promise: no start leaves while an earlier run of the VM is alive, or could still come to life.
    private func check(_ start: VMStart, to target: AgentTarget) throws {
        let name = start.vm.name
        guard synced else { throw Broken("\(name) was started before fencing-service was heard (I5)") }
        for host in machines.keys.sorted() {
            guard let machine = machines[host], machine.powered else { continue }
            if let guest = machine.guests[name], guest.running {
                throw Broken("\(name) attempt \(start.attempt) was started on \(target.host) while attempt \(guest.attempt) runs on \(host) (I3)")
            }
        }
        for (id, flight) in inFlight.sorted(by: { $0.key < $1.key }) where flight.vm == name {
            guard let machine = machines[flight.target.host], machine.powered, machine.bootID == flight.target.bootID else { continue }
            let harmless = flight.attempt <= machine.tombstones[name] ?? 0 || machine.replies[id] != nil
            if !harmless { throw Broken("\(name) attempt \(start.attempt) was started while attempt \(flight.attempt) may still begin on \(flight.target.host) (I3)") }
        }
        guard let run = engine.vms[name]?.run, run.attempt == start.attempt, run.host == target.host, run.bootID == target.bootID else {
            throw Broken("\(name): the command left before its run was in the state (S9)")
        }
    }

    /// Replaying what was journaled rebuilds the state exactly.
    func checkReplay() throws {
        var again = PlacementEngine()
        for (input, time) in journal { _ = again.handle(input, at: time) }
        if again != engine { throw Broken("replaying the journal gives another state") }
    }

    /// Guests of a VM that really run now.
    func truth(_ name: String) -> [String] {
        machines.keys.sorted().filter { machines[$0]?.powered == true && machines[$0]?.guests[name]?.running == true }
    }
}
