import Bus
import Foundation
import Messages
import Replay
import ServiceKit

/// What came of replaying a journal.
struct ReplayReport {
    let service: JournaledService
    let history: JournalHistory
    let whole: Replayed
    let timeline: Timeline

    init(service: JournaledService, history: JournalHistory, whole: Replayed) {
        self.service = service
        self.history = history
        self.whole = whole
        timeline = Timeline(history, whole.comparison)
    }

    var json: JSONValue {
        let comparison = whole.comparison
        var members: [String: JSONValue] = [
            "service": .string(service.rawValue), "lineage": .string(history.lineage), "entries": .unsigned(UInt64(history.entries.count)),
            "first": .unsigned(whole.first), "last": .unsigned(whole.last), "identical": .bool(comparison.differences.isEmpty),
            "decisions": .unsigned(UInt64(comparison.decisions)), "decisionsNotCompared": .unsigned(UInt64(comparison.decisionsLeftOut)),
            "replies": .unsigned(UInt64(comparison.replies)), "states": .unsigned(UInt64(comparison.states)),
            "lives": (try? JSONValue(encoding: history.lives)) ?? .null, "differences": (try? JSONValue(encoding: comparison.differences)) ?? .null,
        ]
        if let begin = timeline.moments.first, let end = timeline.moments.last {
            members["from"] = .string(Clock.rfc3339(nanoseconds: begin.wallTime))
            members["to"] = .string(Clock.rfc3339(nanoseconds: end.wallTime))
        }
        return .object(members)
    }

    var lines: [String] {
        let comparison = whole.comparison
        var lines = ["\(service.rawValue), journal \(history.lineage)", entryLine, writersLine]
        switch comparison.compared {
        case .decisions:
            lines.append("\(comparison.decisions) decisions and the outcomes of \(comparison.replies) requests compared")
            if comparison.decisionsLeftOut > 0 {
                lines.append("\(comparison.decisionsLeftOut) recorded decisions rest on what is not journaled any more, or never was: not compared")
            }
        case .states:
            lines.append("\(comparison.states) states compared: only what must survive this service is journaled, not what it saw on disks and heard from guards;")
            lines.append("its \(comparison.decisionsLeftOut) recorded decisions can be shown, not made again")
        }
        guard !comparison.differences.isEmpty else {
            let nothing = comparison.decisions + comparison.replies + comparison.states == 0
            return lines + [nothing ? "every input was understood, but there was nothing to compare" : "everything came out identical"]
        }
        let shown = comparison.differences.prefix(10)
        lines.append("\(comparison.differences.count) DIFFERENT" + (shown.count < comparison.differences.count ? ", the first \(shown.count):" : ":"))
        for difference in shown {
            let place = [difference.entry.map { "entry \($0)" }, difference.time.map { WallClock.short($0) }].compactMap { $0 }.joined(separator: ", ")
            lines.append("  \(difference.kind.rawValue) at \(place.isEmpty ? "an unknown entry" : place)")
            lines.append("    recorded: \(difference.recorded ?? "nothing")")
            if difference.kind != .gap { lines.append("    replayed: \(difference.replayed ?? "nothing")") }
        }
        return lines
    }

    private var entryLine: String {
        guard whole.last >= whole.first else { return "no entries to replay" }
        var line = "entries \(whole.first) to \(whole.last)"
        if let begin = timeline.moments.first, let end = timeline.moments.last {
            line += ", \(Clock.rfc3339(nanoseconds: begin.wallTime)) to \(Clock.rfc3339(nanoseconds: end.wallTime))"
        }
        if let first = history.entries.first?.sequence, first < whole.first { line += "; \(whole.first - first) older ones have no state before them" }
        return line
    }

    private var writersLine: String {
        var writers: [String] = []
        let before = history.lives.first?.firstSequence ?? .max
        if let first = history.entries.first?.sequence, first < before { writers.append("a version that did not say which") }
        for life in history.lives where writers.last?.hasPrefix(life.version + " ") != true { writers.append("\(life.version) from entry \(life.firstSequence)") }
        return "written by \(writers.joined(separator: ", ")); replayed by \(Version.text)"
    }
}

/// What is printed: the report, or a moment and why it was so.
struct ReplayStory {
    let report: ReplayReport
    let subject: String?
    let moment: Moment?
    private var shown: (state: JSONValue, why: [Decision], step: ReplayedStep?)?

    init(report: ReplayReport, subject: String?, moment: Moment?) {
        self.report = report
        self.subject = subject
        self.moment = moment
    }

    /// - Parameter there: the replay up to the moment.
    mutating func show(_ there: Replayed, history: JournalHistory, wholeState: Bool) {
        let end = moment?.wallTime ?? moment.flatMap { report.timeline.wallTime(of: $0.entry) }
        let past = history.decisions.filter { decision in
            if let entry = decision.entry, entry > 0 { return entry <= there.last }
            guard moment != nil, let end, let time = decision.time.flatMap(Timeline.nanoseconds) else { return moment == nil }
            return time <= end
        }
        let state = subject.flatMap { wholeState ? nil : Self.part(of: there.state, about: $0) } ?? (wholeState || subject == nil ? there.state : .null)
        shown = (state, why(past), moment == nil ? nil : there.lastStep)
    }

    /// The last decisions about the subject, and those near them about what they name.
    private func why(_ past: [Decision]) -> [Decision] {
        guard let subject else { return past.suffix(10) }
        let own = past.filter { Self.matches($0.subject, subject) }.suffix(10)
        let linked = Set(own.flatMap(\.see))
        guard let first = own.first?.time, let last = own.last?.time else { return Array(own) }
        return past.filter { decision in
            if Self.matches(decision.subject, subject) { return own.contains(decision) }
            return linked.contains(decision.subject) && decision.time.map { (first...last).contains($0) } == true
        }
    }

    private static func matches(_ subject: String, _ wanted: String) -> Bool { subject == wanted || subject.split(separator: "/").last.map(String.init) == wanted }

    /// Every listed object of the public state that goes by the subject's name.
    private static func part(of state: JSONValue, about subject: String) -> JSONValue? {
        guard case .object(let members) = state else { return nil }
        let name = subject.split(separator: "/").last.map(String.init) ?? subject
        let found = members.compactMapValues { list -> JSONValue? in
            let elements = list.elements.filter { element in ["name", "vm", "host", "domain", "pool", "lockspace"].contains { element[$0]?.string == name } }
            return elements.isEmpty ? nil : .array(elements)
        }
        return found.isEmpty ? nil : .object(found)
    }

    private var time: String? { moment?.wallTime.map { Clock.rfc3339(nanoseconds: $0) } }

    var json: JSONValue {
        guard let shown else { return report.json }
        return report.json.adding([
            "at": (try? JSONValue(encoding: moment?.entry ?? report.whole.last)) ?? .null, "time": time.map { .string($0) } ?? .null, "state": shown.state,
            "why": (try? JSONValue(encoding: shown.why)) ?? .null, "step": (try? JSONValue(encoding: shown.step)) ?? .null,
        ])
    }

    var text: String {
        var lines = report.lines
        guard let shown else { return lines.joined(separator: "\n") }
        let place = "after entry \(moment?.entry ?? report.whole.last)"
        lines += ["", "\(subject ?? "state") \(time.map { "at \($0), \(place)" } ?? place):"]
        lines.append(shown.state == .null ? "  not known then" : shown.state.outline(indent: "  "))
        if let step = shown.step, subject == nil { lines += ["", "entry \(step.entry): \(step.input.line)"] + step.actions.map { "  then: \($0)" } }
        lines += ["", "why, newest last:"]
        lines += shown.why.isEmpty ? ["  nothing was decided about it until then"] : shown.why.map { Story.line($0) }
        return lines.joined(separator: "\n")
    }
}
