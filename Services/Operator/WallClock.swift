import Foundation

/// Wall-clock times, for people only.
enum WallClock {
    /// Seconds since 1970 of an RFC 3339 text; `nil` if it is none.
    static func seconds(_ text: String) -> Double? {
        let whole = String(text.prefix { $0 != "." && $0 != "Z" })
        guard let date = try? Date("\(whole)Z", strategy: .iso8601) else { return nil }
        let fraction = Double("0." + text.dropFirst(whole.count + 1).prefix { $0.isNumber }) ?? 0
        return date.timeIntervalSince1970 + fraction
    }

    /// `12:34:56.789` of the machine's own day, with the date in front if it is not today; the text itself if it is not a time.
    static func short(_ text: String, now: Date = Date()) -> String {
        guard let seconds = seconds(text) else { return text }
        let thousandths = Int64((seconds * 1000).rounded())
        let date = Date(timeIntervalSince1970: Double(thousandths / 1000))
        let parts = Calendar.current.dateComponents([.hour, .minute, .second], from: date)
        let time = [parts.hour ?? 0, parts.minute ?? 0, parts.second ?? 0].map { padded($0, 2) }.joined(separator: ":") + "." + padded(Int(thousandths % 1000), 3)
        return Calendar.current.isDate(date, inSameDayAs: now) ? time : "\(text.prefix(10)) \(time)"
    }

    private static func padded(_ number: Int, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
