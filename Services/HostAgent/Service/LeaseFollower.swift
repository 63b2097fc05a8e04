import Bus
import Foundation
import Messages

/// This host's memberships, as its own lease-service tells them: every second, and four times as often while one is on its way.
@ReactorActor
final class LeaseFollower {
    /// `nil`: it does not answer.
    var tell: (@ReactorActor ([AgentLockspace]?) -> Void)?
    private(set) var hasAnswered = false
    private let client: RequestClient
    private var missed = 0

    init(_ places: HostPlaces) throws {
        client = try RequestClient(endpoint: places.leaseService, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
    }

    func start() {
        client.request("snapshot", Nothing(), timeout: .seconds(1)) { [self] reply in
            let snapshot = try? ReplyFrame.body(SnapshotBody<LeaseSnapshot>.self, reply.get()).body
            hasAnswered = hasAnswered || snapshot != nil
            missed = snapshot == nil ? missed + 1 : 0
            let seen = snapshot?.lockspaces.map {
                AgentLockspace(lockspace: $0.lockspace, state: $0.state, generation: $0.generation, generationBefore: $0.generationBefore)
            }
            if let seen { tell?(seen.sorted { $0.lockspace < $1.lockspace }) } else if missed > 2 { tell?(nil) }
            let isSettled = seen?.allSatisfy { $0.state == .joined } ?? true
            Reactor.shared.after(isSettled ? .seconds(1) : .milliseconds(250)) { [self] in start() }
        }
    }

    /// The reply to `snapshot`, without what says when it was made.
    private struct SnapshotBody<Body: Decodable>: Decodable { var body: Body }
}
