import Foundation
import TestLab

/// One measured number. `value` is what is judged; the percentiles tell more of the same samples.
struct Figure: Codable, Sendable {
    enum Unit: String, Codable, Sendable { case ratio = "x", count = "", milliseconds = "ms", microseconds = "us", megabytes = "MB", kilobytes = "KiB", percent = "%", rate = "/s" }

    var name: String
    /// What it is, in a few words.
    var what: String
    var unit: Unit
    var value: Double
    var p50: Double?
    var p95: Double?
    var p99: Double?
    var count: Int?

    init(_ name: String, _ what: String, _ unit: Unit, _ value: Double) {
        self.name = name
        self.what = what
        self.unit = unit
        self.value = value
    }

    /// - Parameter judged: which percentile is held against the threshold.
    init(_ name: String, _ what: String, _ unit: Unit, _ samples: [Double], judged percentile: Double = 0.5) {
        self.init(name, what, unit, samples.percentile(percentile))
        p50 = samples.percentile(0.5)
        p95 = samples.percentile(0.95)
        p99 = samples.percentile(0.99)
        count = samples.count
    }
}

/// `thresholds.json`: for each figure the aim, and the limit that a run must keep.
struct Thresholds: Sendable {
    struct Bound: Codable, Sendable {
        /// What the design asks for.
        var aim: Double?
        /// Above it the run fails. Times that a busy machine stretches are bounded as ratios to what the bare step costs in the same run.
        var limit: Double?
        /// More is better: below the limit the run fails.
        var atLeast: Bool?
    }

    private let bounds: [String: Bound]
    var names: [String] { bounds.keys.sorted() }

    static func load(_ path: String) throws -> Thresholds {
        guard let data = FileManager.default.contents(atPath: path) else { throw LabFailure("\(path) cannot be read; run `make bench` in the source tree") }
        return Thresholds(bounds: try JSONDecoder().decode([String: Bound].self, from: data))
    }

    func judge(_ figure: Figure) -> Judged {
        let bound = bounds[figure.name]
        return Judged(figure: figure, aim: bound?.aim, limit: bound?.limit, atLeast: bound?.atLeast)
    }
}

/// A figure beside its aim and limit.
struct Judged: Codable, Sendable {
    var figure: Figure
    var aim: Double?
    var limit: Double?
    var atLeast: Bool?

    /// A value that could not be measured (NaN) keeps no limit.
    var isBroken: Bool { limit.map { !keeps($0) } ?? false }
    var missesAim: Bool { aim.map { !keeps($0) } ?? false }
    private func keeps(_ bound: Double) -> Bool { atLeast == true ? figure.value >= bound : figure.value <= bound }

    var text: String {
        func number(_ value: Double) -> String { String(format: abs(value) < 10 ? "%.2f" : abs(value) < 100 ? "%.1f" : "%.0f", value) + " " + figure.unit.rawValue }
        var line = figure.name.padding(toLength: 34, withPad: " ", startingAt: 0) + number(figure.value).padding(toLength: 11, withPad: " ", startingAt: 0)
        var more: [String] = []
        if let p50 = figure.p50, let p95 = figure.p95, let p99 = figure.p99, let count = figure.count {
            more.append("p50 \(number(p50)), p95 \(number(p95)), p99 \(number(p99)) of \(count)")
        }
        if let aim { more.append("aim \(number(aim))\(missesAim ? ": MISSED" : "")") }
        if let limit, isBroken { more.append("limit \(number(limit)): BROKEN") }
        line += figure.what
        return more.isEmpty ? line : line + " (" + more.joined(separator: "; ") + ")"
    }
}
