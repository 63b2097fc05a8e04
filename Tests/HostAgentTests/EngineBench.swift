import Foundation
import HostAgentEngine
import Messages

/// An engine with short words for what tests do to it.
struct EngineBench {
    var engine = HostAgentEngine()
    var now = Instant(nanoseconds: 0)
    private var requests = 0
    static let domain = "d0000000-0000-4000-8000-000000000001"
    static let operator_ = Caller(role: .operator_)

    /// - Parameter initialized: the scan has been answered and a domain is connected.
    init(initialized: Bool = true) {
        guard initialized else { return }
        _ = start()
        _ = send(.scanned([]))
        _ = request { .storageConnect($0, Self.operator_, StorageConnect(domain: Self.domain, path: "/shared/d")) }
    }

    mutating func start(boot: String = "boot1", hardware: String = "hw1", settle: Duration = .zero) -> [Effect<AgentAction>] {
        send(.started(AgentIdentity(host: "host1", hostID: 1, bootID: boot, hardwareID: hardware, signingKey: "00", settle: settle)))
    }

    mutating func send(_ input: AgentInput) -> [Effect<AgentAction>] { engine.handle(input, at: now) }

    mutating func request(_ make: (RequestID) -> AgentInput) -> [Effect<AgentAction>] {
        requests += 1
        return send(make("r\(requests)"))
    }

    mutating func start(_ vm: String, _ attempt: UInt64, leases: Bool = true, proofs: [SignedProof] = []) -> [Effect<AgentAction>] {
        var definition = Self.definition(vm)
        definition.leases = leases
        return request { .vmStart($0, Self.operator_, VMStart(vm: definition, attempt: attempt, generations: [Self.domain: 1], proofs: proofs)) }
    }

    mutating func stop(_ vm: String, _ attempt: UInt64) -> [Effect<AgentAction>] {
        request { .vmStop($0, Self.operator_, VMAttempt(vm: vm, attempt: attempt)) }
    }

    mutating func observe(_ vm: String, _ attempt: UInt64) -> [Effect<AgentAction>] {
        request { .vmObserve($0, Self.operator_, VMAttempt(vm: vm, attempt: attempt)) }
    }

    /// kill -9 and a new process: what is left is what was written.
    mutating func restart() throws { engine = try JSONDecoder().decode(HostAgentEngine.self, from: try JSONEncoder().encode(engine)) }

    static func definition(_ vm: String) -> VMDefinition {
        VMDefinition(name: vm, memoryMiB: 4, disks: [DiskDefinition(image: "image-\(vm)", domain: domain, size: 1 << 20)], ha: true)
    }

    static func signed(_ proof: Proof) -> SignedProof { SignedProof(proof: proof, statement: "", signature: "", key: "") }
}

extension [Effect<AgentAction>] {
    var actions: [AgentAction] { compactMap { if case .perform(let action) = $0 { action } else { nil } } }
    var replies: [Reply] { compactMap { if case .reply(_, let reply) = $0 { reply } else { nil } } }
    var spawns: [GuardSpec] { actions.compactMap { if case .spawn(let spec) = $0 { spec } else { nil } } }
    var proofs: [(Holder, Proof)] { actions.compactMap { if case .sign(let holder, let proof) = $0 { (holder, proof) } else { nil } } }
    var drops: [String] { actions.compactMap { if case .drop(let place) = $0 { place.domain } else { nil } } }
    var keeps: [String] { actions.compactMap { if case .keep(let place) = $0 { place.domain } else { nil } } }
    var scans: Int { actions.filter { if case .scan = $0 { true } else { false } }.count }
    var quiesces: [Holder] { actions.compactMap { if case .quiesce(let holder, _) = $0 { holder } else { nil } } }
    var refusals: [String] { replies.compactMap { if case .refused(let error) = $0 { error.code } else { nil } } }
    var observations: [VMObservation] { replies.compactMap { if case .success(let body) = $0 { body as? VMObservation } else { nil } } }
    var roles: [SPMRoleStatus] { replies.compactMap { if case .success(let body) = $0 { body as? SPMRoleStatus } else { nil } } }
}

struct SplitMix64: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
