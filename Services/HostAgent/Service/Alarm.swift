import Bus
import Messages
import ServiceKit

/// The one timer of something that names its next time after each input.
@ReactorActor
final class Alarm {
    private var timer: TimerID?
    private var time: Instant?

    nonisolated init() {}

    /// Instead of what it was set for; `nil`: never.
    func set(_ time: Instant?, _ ring: @escaping @ReactorActor () -> Void) {
        guard time != self.time else { return }
        timer.map(Reactor.shared.cancel)
        self.time = time
        timer = time.map { time in
            Reactor.shared.after(time - Clock.boottime()) { [self] in
                self.time = nil
                ring()
            }
        }
    }
}

extension Result {
    /// What a refusal says; `nil` for a success.
    var error: Failure? { if case .failure(let error) = self { error } else { nil } }
}

extension Blocking {
    /// What work throws; `nil` if it is done.
    static func error(_ work: () throws(RequestError) -> Void) -> RequestError? {
        do throws(RequestError) {
            try work()
            return nil
        } catch {
            return error
        }
    }
}
