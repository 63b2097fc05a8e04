import Bus
import CLinux
import LeaseEngine
import Messages
import ServiceKit

extension LeaseHost {
    /// Repairs of a whole lockspace: only people ask for them.
    static func repairs(_ check: ProofCheck) -> [Route<LeaseEngine>] {
        let people: Set<Role> = [.operator_]
        func repair(_ type: String, restores: Bool) -> Route<LeaseEngine> {
            Route(type, people) { request in
                let body = try request.body(LockspaceRepair.self)
                let received = Instant(nanoseconds: cl_boottime())
                let proofs = body.proofs.compactMap { signed in
                    check.verified(signed).map { AcceptedProof(proof: $0.proof, age: max(.zero, signed.age), receivedAt: received) }
                }
                return .repair(request.header.id, body, proofs, restores: restores, time: time)
            }
        }
        return [
            Route("lockspace.drain", people) { .drain($0.header.id, try $0.body(LockspaceDrain.self)) },
            Route("lockspace.backup", people) { .backup($0.header.id, try $0.body(LockspaceBackup.self), time: time) },
            repair("lockspace.reinitialize", restores: false),
            repair("lockspace.restore", restores: true),
            Route("lease.void", people) { .void($0.header.id, try $0.body(LeaseVoid.self)) },
        ]
    }

    private nonisolated static var time: UInt64 { UInt64(cl_realtime() / 1_000_000_000) }
}
