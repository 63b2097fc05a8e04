import Messages

/// What was asked for, what was acknowledged, and what was done.
struct Promises: Sendable {
    private var asked: [RequestID: (promise: Promise, fact: Fact, at: Int)] = [:]
    /// Values that may still come true, by object: of requests without an answer.
    private var pending: [String: [RequestID: String]] = [:]
    /// What was acknowledged last; of requests that overlapped any may have been carried out last, whichever answer came first.
    private var kept: [String: [(value: String, fact: Fact, at: Int)]] = [:]
    /// Counts requests and acknowledgements.
    private var clock = 0
    private var completed: Set<String> = []

    mutating func ask(_ id: RequestID, _ promise: Promise) {
        guard asked[id] == nil else { return }
        clock += 1
        asked[id] = (promise, .asked(id, promise), clock)
        for promise in [promise] + promise.implied { pending[promise.object, default: [:]][id] = promise.value }
    }

    mutating func acknowledge(_ id: RequestID) {
        guard let request = asked[id], pending[request.promise.object]?[id] != nil else { return }
        clock += 1
        for promise in [request.promise] + request.promise.implied {
            pending[promise.object]?[id] = nil
            kept[promise.object, default: []].removeAll { $0.at < request.at }
            kept[promise.object]?.append((promise.value, request.fact, clock))
        }
    }

    mutating func refuse(_ id: RequestID) {
        guard let request = asked.removeValue(forKey: id) else { return }
        for promise in [request.promise] + request.promise.implied { pending[promise.object]?[id] = nil }
    }

    mutating func done(_ effect: String) { completed.insert(effect) }

    func judgeBegin(_ effect: String, _ judgement: inout Judgement) {
        guard completed.contains(effect) else { return }
        judgement.violation(.I6, "\(effect) was completed, and is done again", earlier: .effectDone(effect))
    }

    func judgeFound(_ promise: Promise, _ judgement: inout Judgement) {
        guard let acknowledged = kept[promise.object]?.last, !mayBe(promise) else { return }
        judgement.violation(.I6, "\(promise.object) is \(promise.value); \(acknowledged.value) was acknowledged", earlier: acknowledged.fact)
    }

    /// Whether this was acknowledged last, or was asked for and may be in force.
    func mayBe(_ promise: Promise) -> Bool {
        kept[promise.object]?.contains { $0.value == promise.value } == true || pending[promise.object]?.values.contains(promise.value) == true
    }

    /// Whether the acknowledged value is this one and nothing is under way that changes it.
    func isCertain(_ promise: Promise) -> Bool {
        kept[promise.object]?.allSatisfy { $0.value == promise.value } == true && pending[promise.object]?.values.contains { $0 != promise.value } != true
    }

    func fact(for object: String) -> Fact? { kept[object]?.last?.fact }
}
