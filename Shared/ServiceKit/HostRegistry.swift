public import Bus
import Foundation
public import Messages

/// A service's copy of what fencing-service owns: hosts, with verified proofs, and whether recovery may act. Rebuilt from snapshot and events.
///
/// Proofs are verified here, before anybody decides by them: a view that is handed on carries the signed content of an acceptable proof, or none.
@ReactorActor
public final class HostRegistry {
    /// What was learned, in the order in which it happened.
    public enum News: Sendable {
        /// The whole registry, after each (re)connection.
        case all([HostView], HAState)
        case host(HostView)
        case removed(String)
        case recovery(HAState)
    }

    private struct Snapshot: Decodable { var body: FencingSnapshot }

    private static let silence = Duration.seconds(5)

    private let proofs: ProofCheck
    private let security: BusSecurity?
    private let onNews: @ReactorActor (News) -> Void
    private let onProblem: @ReactorActor (_ key: String, _ text: String?) -> Void
    private var views: [String: HostView] = [:]
    private var subscriber: EventSubscriber?

    /// - Parameters:
    ///   - onNews: gets what was learned; called on the reactor.
    ///   - onProblem: for health; `nil` when the problem is over.
    public init(
        security: BusSecurity?, allowListPath: String, onNews: @escaping @ReactorActor (News) -> Void,
        onProblem: @escaping @ReactorActor (_ key: String, _ text: String?) -> Void
    ) {
        self.security = security
        proofs = ProofCheck(security: security, allowListPath: allowListPath)
        self.onNews = onNews
        self.onProblem = onProblem
        proofs.onProblem = { onProblem("proofs", $0) }
    }

    /// Begins to follow.
    ///
    /// - Throws: when the endpoints cannot be used.
    public func follow(_ fencing: ClusterFile.Endpoints) throws {
        subscriber = try EventSubscriber(
            events: fencing.events, requests: fencing.requests, serverKey: nil, security: security, topics: ["host.", "ha."],
            onSnapshot: { [self] frame in reading("snapshot") { take(try ReplyFrame.body(Snapshot.self, frame).body) } },
            onEvent: { [self] header, frame in reading(header.type) { try take(header.type, frame) } })
        _ = Reactor.shared.after(Self.silence) { [self] in checkSilence() }
    }

    /// The proof with its signed content in place of the readable copy; `nil` if its maker is not pinned for it.
    ///
    /// - Parameter sender: for `ended` proofs the host that sent it: an agent speaks for itself only.
    public func verified(_ signed: SignedProof, from sender: String? = nil) -> SignedProof? {
        proofs.verified(signed, from: sender)
    }

    private func take(_ snapshot: FencingSnapshot) {
        let hosts = snapshot.hosts.map(checked)
        views = Dictionary(hosts.map { ($0.name, $0) }, uniquingKeysWith: { _, last in last })
        onNews(.all(hosts, snapshot.ha))
    }

    private func take(_ type: String, _ frame: Data) throws {
        switch type {
        case "host.status", "host.registered":
            tell(checked(try EventFrame.body(HostView.self, frame)))
        case "host.removed":
            let name = try EventFrame.body(HostView.self, frame).name
            views[name] = nil
            onNews(.removed(name))
        case "host.proof":
            let signed = try EventFrame.body(HostProofEvent.self, frame)
            guard let proof = verified(signed), var view = views[proof.proof.host] else { return }
            view.proof = proof
            tell(view)
        case "host.proof-revoked":
            guard var view = views[try EventFrame.body(HostProofEvent.self, frame).proof.host] else { return }
            view.proof = nil
            tell(view)
        case "ha.state":
            onNews(.recovery(try EventFrame.body(HAState.self, frame)))
        default:
            break
        }
    }

    private func tell(_ view: HostView) {
        views[view.name] = view
        onNews(.host(view))
    }

    private func checked(_ view: HostView) -> HostView {
        var copy = view
        copy.proof = view.proof.flatMap { verified($0) }.flatMap { $0.proof.host == view.name ? $0 : nil }
        return copy
    }

    /// What cannot be read is told by health and changes nothing.
    private func reading(_ what: String, _ work: () throws -> Void) {
        do {
            try work()
            onProblem("messages", nil)
        } catch {
            onProblem("messages", "\(what) of fencing-service cannot be read: \(error)")
        }
    }

    private func checkSilence() {
        let heard = subscriber?.lastHeard.map { Clock.boottime() - $0 < Self.silence } ?? false
        onProblem("fencing", heard ? nil : "fencing-service is not heard: hosts are taken as they were last known")
        _ = Reactor.shared.after(.seconds(1)) { [self] in checkSilence() }
    }
}
