import Bus
import CLinux
import Foundation
import Messages
import TestLab

/// How soon leases are usable again: by another host once their owner is proven off, and by their own guards after kill -9 of lease-service.
struct LeaseTakeover {
    let place: LeasePlace
    let rounds: Int

    private static let holders = 20
    private static let lockspace = "takeover"

    func run() throws -> [Figure] {
        let fencing = try KeyFile.generate(name: "fencing-service", role: .service, host: nil)
        let first = try LeaseNode(name: "t1", hostID: 1, in: place.directory, memory: place.memory, fencing: fencing)
        defer { first.kill() }
        let second = try LeaseNode(name: "t2", hostID: 2, in: place.directory, memory: place.memory, fencing: fencing)
        defer { second.kill() }
        let domain = try place.path(Self.lockspace)
        try first.initialize(Self.lockspace, at: domain, ioTimeout: 2)
        let joined = try first.join(Self.lockspace, at: domain)
        try second.join(Self.lockspace, at: domain)
        try first.create((0..<Self.holders).map { "disk\($0)" }, in: Self.lockspace)

        var held: [Held] = []
        for index in 0..<Self.holders {
            let client = try first.guarded("web\(index)")
            let answer = try client.acquire([lease(index)])
            guard case .granted(let deadline, let leases) = answer else { throw LabFailure("disk\(index): \(answer)") }
            held.append(Held(client: client, leases: leases, deadline: deadline))
        }
        var figures = try adoption(first, &held)
        first.kill()
        figures.append(try takeover(second, generation: joined.generation, fencing))
        return figures
    }

    private struct Held {
        var client: LeaseClient
        var leases: [GuardLease]
        var deadline: Int64
    }

    private func lease(_ index: Int) -> LeaseName { LeaseName(lockspace: Self.lockspace, resource: "disk\(index)") }

    /// kill -9, start again; guards connect as soon as somebody listens.
    private func adoption(_ node: LeaseNode, _ held: inout [Held]) throws -> [Figure] {
        var fromStart: [Double] = [], first: [Double] = [], all: [Double] = []
        for _ in 0..<rounds {
            node.kill()
            let began = cl_boottime()
            try node.spawn()
            try Wait.until("lease-service listens", seconds: 10, pause: 200) { (try? held[0].client.connect()) != nil }
            let listens = cl_boottime()
            for index in held.indices {
                if index > 0 { try held[index].client.connect() }
                let answer = try held[index].client.adopt(held[index].leases, deadline: held[index].deadline)
                guard case .granted(let deadline, let leases) = answer else { throw LabFailure("adoption of disk\(index): \(answer)") }
                held[index].leases = leases
                held[index].deadline = deadline
                if index == 0 { first.append(Double(cl_boottime() - listens) / 1e6) }
            }
            all.append(Double(cl_boottime() - listens) / 1e6)
            fromStart.append(Double(cl_boottime() - began) / 1e6)
        }
        return [
            Figure("lease.adopt", "after kill -9 and a new start: from its socket until a guard is granted again what it holds", .milliseconds, first, judged: 0.95),
            Figure("lease.adopt.all", "until \(Self.holders) guards one after another are", .milliseconds, all, judged: 0.95),
            Figure("lease.adopt.start", "exec until the last of them is", .milliseconds, fromStart, judged: 0.95),
        ]
    }

    /// The owner was killed a moment ago: its sector looks alive, only the proof tells.
    private func takeover(_ node: LeaseNode, generation: UInt64, _ fencing: KeyFile) throws -> Figure {
        let proof = Proof(
            id: "bench", kind: .powerOff, host: "t1", hostID: 1, incarnations: Incarnation(1), generations: [Self.lockspace: generation], caseID: "bench", statement: "t1 is off")
        let path = "\(place.directory)/proofs.json"
        try JSON.encode([ProofSigning.sign(proof, with: fencing)]).write(to: URL(fileURLWithPath: path))
        let times = try (0..<Self.holders).map { index in
            let client = try node.guarded("web\(index)", attempt: 2)
            let began = cl_boottime()
            let answer = try client.acquire([lease(index)], proofs: path)
            guard case .granted = answer else { throw LabFailure("takeover of disk\(index): \(answer)") }
            return Double(cl_boottime() - began) / 1e6
        }
        return Figure("lease.takeover", "a dead host's lease, acquired with the proof that it is off (settle 0)", .milliseconds, times, judged: 0.95)
    }
}
