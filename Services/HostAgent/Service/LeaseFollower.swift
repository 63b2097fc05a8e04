import Bus
import HostAgentEngine
import Messages

/// This host's memberships, as its own lease-service tells them: asks as ``MembershipFollower`` says.
@ReactorActor
final class LeaseFollower {
    /// `nil`: it does not answer.
    var tell: (@ReactorActor ([AgentLockspace]?) -> Void)?
    var tellWatchdog: (@ReactorActor (LeaseWatchdogView) -> Void)?
    var hasAnswered: Bool { follower.hasAnswered }
    private let client: RequestClient
    private var follower = MembershipFollower()
    private let alarm = Alarm()

    init(_ places: HostPlaces) throws {
        client = try RequestClient(endpoint: places.leaseService, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
    }

    func start() { handle(.wake) }

    private func handle(_ input: MembershipFollower.Input) {
        for step in follower.handle(input, at: Clock.boottime()) {
            switch step {
            case .ask(let timeout):
                client.request("snapshot", Nothing(), timeout: timeout) { [self] reply in
                    handle(.answered(try? ReplyFrame.body(SnapshotBody<LeaseSnapshot>.self, reply.get()).body))
                }
            case .tell(let seen): tell?(seen)
            case .watchdog(let view): tellWatchdog?(view)
            }
        }
        alarm.set(follower.nextWake) { [self] in handle(.wake) }
    }

    /// The reply to `snapshot`, without what says when it was made.
    private struct SnapshotBody<Body: Decodable>: Decodable { var body: Body }
}
