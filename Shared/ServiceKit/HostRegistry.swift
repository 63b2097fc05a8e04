public import Bus
import Foundation
public import Messages
import ServiceCore

/// A service's copy of what fencing-service owns: hosts, with verified proofs, and whether recovery may act. Rebuilt from snapshot and events.
///
/// Proofs are verified here, before anybody decides by them: a view that is handed on carries the signed content of an acceptable proof, or none.
@ReactorActor
public final class HostRegistry {
    private struct Snapshot: Decodable { var body: FencingSnapshot }

    private static let silence = Duration.seconds(5)

    private let proofs: ProofCheck
    private let security: BusSecurity?
    private let onNews: @ReactorActor (RegistryNews) -> Void
    private let onProblem: @ReactorActor (_ key: String, _ text: String?) -> Void
    private var follower = RegistryFollower()
    private var subscriber: EventSubscriber?

    /// - Parameters:
    ///   - onNews: gets what was learned; called on the reactor.
    ///   - onProblem: for health; `nil` when the problem is over.
    public init(
        security: BusSecurity?, allowListPath: String, onNews: @escaping @ReactorActor (RegistryNews) -> Void,
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
            onSnapshot: { [self] frame in reading("snapshot") { onNews(follower.take(try ReplyFrame.body(Snapshot.self, frame).body) { verified($0) }) } },
            onEvent: { [self] header, frame in
                reading(header.type) {
                    guard let event = try RegistryEvent(header.type, EventFrame.Body(frame)), let news = follower.take(event, { verified($0) }) else { return }
                    onNews(news)
                }
            })
        _ = Reactor.shared.after(Self.silence) { [self] in checkSilence() }
    }

    /// The proof with its signed content in place of the readable copy; `nil` if its maker is not pinned for it.
    ///
    /// - Parameter sender: for `ended` proofs the host that sent it: an agent speaks for itself only.
    public func verified(_ signed: SignedProof, from sender: String? = nil) -> SignedProof? {
        proofs.verified(signed, from: sender)
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
