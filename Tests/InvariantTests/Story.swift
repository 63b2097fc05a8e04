@testable import Invariants
import Messages

/// Facts in the order they became true, and what they break.
struct Story {
    var checker = InvariantChecker(.init(grace: .seconds(30)))
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var violations: [Violation] = []

    init(_ facts: Fact...) { for fact in facts { tell(fact) } }

    mutating func tell(_ fact: Fact) { violations += checker.note(fact, at: now) }
    mutating func wait(_ seconds: Int64) { now = now + .seconds(seconds) }

    var broken: Set<Invariant> { Set(violations.map(\.invariant)) }
}

enum Make {
    static let lease = LeaseName(lockspace: "domain", resource: "disk1")
    static let sdm = LeaseName(lockspace: "domain", resource: "SDM")

    static func web(_ attempt: UInt64, _ host: String, boot: String? = nil) -> Run { .vm("web", attempt, host: host, boot: boot ?? "\(host)-boot1") }
    static func spm(_ term: UInt64, _ host: String) -> Run { .spm("pool", term: term, host: host, boot: "\(host)-boot1") }

    static func sent(_ run: Run, _ incarnation: UInt64 = 1) -> Fact { .startSent(run, Incarnation(incarnation)) }
    static func began(_ run: Run) -> Fact { .guestBegan(run, writes: ["disk1"], leases: []) }
    static func holding(_ run: Run, lver: UInt64, generation: UInt64 = 1) -> Fact {
        .guestBegan(run, writes: ["disk1"], leases: [GuardLease(name: lease, lver: lver, generation: generation)])
    }
    static func serves(_ run: Run, lver: UInt64) -> Fact { .workerBegan(run, lease: GuardLease(name: sdm, lver: lver, generation: 1)) }
    static func off(_ host: String) -> Fact { .bootEnded(host: host, boot: "\(host)-boot1") }

    static func proof(_ host: String, _ incarnations: UInt64 = 1, id: String = "p1") -> Proof {
        Proof(id: id, kind: .powerOff, host: host, hostID: 1, incarnations: Incarnation(incarnations), statement: "off")
    }
    static func ended(_ run: Run) -> Proof {
        let name = run.holder.role == .spm ? "spm/\(run.holder.name)" : run.holder.name
        return Proof(id: "e\(run)", kind: .ended, host: run.host, hostID: 1, holder: name, attempt: run.holder.attempt, statement: "reaped")
    }
}
