/// A point on the logical clock of one service, in nanoseconds.
///
/// Within one boot of the machine it follows CLOCK_BOOTTIME (suspend counts); across boots it continues from the last journaled instant.
/// Instants of different services are never compared.
public struct Instant: Comparable, Hashable, Codable, Sendable {
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    public init(from decoder: any Decoder) throws {
        nanoseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(nanoseconds)
    }

    public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
    public static func + (a: Instant, d: Duration) -> Instant { Instant(nanoseconds: a.nanoseconds.adding(d.nanoseconds)) }
    public static func - (a: Instant, d: Duration) -> Instant { Instant(nanoseconds: a.nanoseconds.subtracting(d.nanoseconds)) }
    public static func - (a: Instant, b: Instant) -> Duration { Duration(nanoseconds: a.nanoseconds.subtracting(b.nanoseconds)) }
}

/// A length of time in nanoseconds; written to JSON as an integer.
///
/// Arithmetic stops at the largest and smallest values instead of ending the process: numbers come from the wire and from configuration.
public struct Duration: Comparable, Hashable, Codable, Sendable {
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    public init(from decoder: any Decoder) throws {
        nanoseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(nanoseconds)
    }

    public static let zero = Duration(nanoseconds: 0)
    public static func seconds(_ s: Int64) -> Duration { Duration(nanoseconds: s.multiplied(by: 1_000_000_000)) }
    public static func milliseconds(_ ms: Int64) -> Duration { Duration(nanoseconds: ms.multiplied(by: 1_000_000)) }

    /// Whole and fractional seconds, for people.
    public var seconds: Double { Double(nanoseconds) / 1e9 }
    /// Whole milliseconds, rounded down; what poll-style calls take.
    public var milliseconds: Int64 { nanoseconds / 1_000_000 }

    public static func < (a: Duration, b: Duration) -> Bool { a.nanoseconds < b.nanoseconds }
    public static func + (a: Duration, b: Duration) -> Duration { Duration(nanoseconds: a.nanoseconds.adding(b.nanoseconds)) }
    public static func - (a: Duration, b: Duration) -> Duration { Duration(nanoseconds: a.nanoseconds.subtracting(b.nanoseconds)) }
    public static func * (d: Duration, n: Int64) -> Duration { Duration(nanoseconds: d.nanoseconds.multiplied(by: n)) }
    public static func / (a: Duration, b: Duration) -> Int64 { a.nanoseconds / b.nanoseconds }
}

/// The n-th life of a host, counted by fencing-service from 1: boot ids have no order, incarnations have.
public struct Incarnation: Comparable, Hashable, Codable, Sendable, CustomStringConvertible {
    public var number: UInt64

    public init(_ number: UInt64) { self.number = number }

    public init(from decoder: any Decoder) throws {
        number = try decoder.singleValueContainer().decode(UInt64.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(number)
    }

    public var description: String { String(number) }
    public var next: Incarnation { Incarnation(number + 1) }
    public static func < (a: Incarnation, b: Incarnation) -> Bool { a.number < b.number }
}

extension Int64 {
    fileprivate func adding(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }

    fileprivate func subtracting(_ other: Int64) -> Int64 {
        let (difference, overflow) = subtractingReportingOverflow(other)
        return overflow ? (other > 0 ? .min : .max) : difference
    }

    fileprivate func multiplied(by other: Int64) -> Int64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? ((self < 0) == (other < 0) ? .max : .min) : product
    }
}
