import Bus
import Foundation
import Messages

private struct BodyOnly<Body: Decodable>: Decodable {
    var body: Body
}

/// One event in words.
struct EventText {
    let header: EventHeader
    private let frame: Data

    /// `nil` if the frame is not an event.
    init?(frame: Data) {
        guard let header = try? JSON.decode(EventHeader.self, frame) else { return nil }
        self.header = header
        self.frame = frame
    }

    /// Time, source, topic and what happened, on one line.
    func line(topic: String, words: String) -> String { "\(WallClock.short(header.time))  \(header.source)  \(topic)  \(words)" }

    /// What happened and why.
    var words: String {
        switch header.type {
        case "host.status": body(HostView.self).map(Self.host) ?? raw
        case "host.registered": body(HostView.self).map { "\($0.name) registered with host id \($0.id), incarnation \($0.incarnation)" } ?? raw
        case "host.removed": body(HostRequest.self).map { "\($0.host) forgotten" } ?? body(HostView.self).map { "\($0.name) forgotten" } ?? raw
        case "fence.rehearsed": body(Rehearsal.self).map(\.sentence) ?? raw
        case "host.proof": body(SignedProof.self).map { "proof \(Self.proof($0.proof))" } ?? raw
        case "host.proof-revoked":
            "ALARM: a proof was revoked, recovery is held: \(body(SignedProof.self).map { Self.proof($0.proof) } ?? raw)"
        case let type where type.hasPrefix("fence."):
            body(FenceCaseView.self).map { Self.fenceCase($0, type) } ?? raw
        case "power.state": body(PowerStateEvent.self).map { "\($0.host) power \($0.state.rawValue)\(Self.why($0.detail))" } ?? raw
        case "ha.state": body(HAState.self).map(HACommand.words) ?? raw
        case "lockspace.anomaly": body(LockspaceAnomaly.self).map { $0.isOver ? "over: \($0.what)" : "LOOK: \($0.what); \($0.advice)" } ?? raw
        case "spm.elected": body(PoolView.self).map { "SPM elected: \(PoolCommand.words($0))" } ?? raw
        case "spm.lost": body(PoolView.self).map { "SPM lost: \(PoolCommand.words($0))" } ?? raw
        case "pool.status": body(PoolView.self).map(PoolCommand.words) ?? raw
        case let type where type.hasPrefix("task."):
            body(TaskView.self).map { "task \($0.task) \($0.status.rawValue): \(TaskCommand.words($0.work))\(Self.why($0.detail))" } ?? raw
        case let type where type.hasPrefix("vm."): body(VMView.self).map { Self.vm($0, type) } ?? raw
        case "domain.status": body(DomainView.self).map { "domain \($0.name) \($0.status.rawValue)\(Self.why($0.reason))" } ?? raw
        case "domain.host-status": body(DomainHostStatus.self).map(Self.domainOnHost) ?? raw
        case "service.started": body(ServiceLife.self).map { "\(header.source) started, version \($0.version), pid \($0.pid)" } ?? raw
        case "service.stopping": body(ServiceLife.self).map { "\(header.source) is stopping (pid \($0.pid))" } ?? raw
        default: raw
        }
    }

    private func body<Body: Decodable>(_ type: Body.Type) -> Body? {
        try? JSON.decode(BodyOnly<Body>.self, frame).body
    }

    /// The body as it came, for types that this version does not know.
    private var raw: String { body(JSONValue.self)?.line ?? "" }

    private static func why(_ text: String) -> String { text.isEmpty ? "" : ": \(text)" }

    private static func host(_ host: HostView) -> String {
        let change = host.previous.map { $0 == host.status ? host.status.rawValue : "\($0.rawValue) -> \(host.status.rawValue)" } ?? host.status.rawValue
        return "\(host.name) \(change) (incarnation \(host.incarnation))\(why(host.reason))"
    }

    private static func fenceCase(_ found: FenceCaseView, _ type: String) -> String {
        "fence case \(found.id) of \(found.host)\(type == "fence.step" ? "" : " \(type.dropFirst(6))"): \(found.step)\(why(found.reason))"
    }

    private static func proof(_ proof: Proof) -> String {
        var covers: [String] = []
        if let incarnations = proof.incarnations { covers.append("incarnations up to \(incarnations)") }
        for (lockspace, generation) in proof.generations.sorted(by: { $0.key < $1.key }) { covers.append("generations up to \(generation) in \(lockspace)") }
        if let holder = proof.holder { covers.append("\(holder) attempt \(proof.attempt.map(String.init) ?? "?")") }
        return "\(proof.kind.rawValue) of \(proof.host) covers \(covers.isEmpty ? "nothing" : covers.joined(separator: ", ")): \(proof.statement)"
    }

    private static func vm(_ vm: VMView, _ type: String) -> String {
        let place = vm.host ?? vm.run?.host
        let what: String = switch (type, vm.status) {
        case ("vm.defined", _): "defined"
        case ("vm.placed", _): "placed on \(place ?? "?")"
        case ("vm.failed", _): "failed (\(vm.status.rawValue))"
        case ("vm.recovered", _): "recovered on \(place ?? "?")"
        case (_, .up): "up on \(place ?? "?")"
        case (_, .starting): "starting on \(place ?? "?")"
        default: vm.status.rawValue
        }
        return "VM \(vm.name) \(what), attempt \(vm.attempt)\(why(vm.reason))"
    }

    private static func domainOnHost(_ status: DomainHostStatus) -> String {
        let seen = status.ok.map { $0 ? "ok" : "FAILING" } ?? "unknown"
        return "domain \(status.domain) on \(status.host): \(seen), \(status.joined ? "joined" : "not joined")\(why(status.detail))"
    }
}
