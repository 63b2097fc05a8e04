/// What vm-guard, its lease-service and its agent say to each other: one SOCK_SEQPACKET message each, text, no Foundation needed.
///
/// First line the verb, then `key=value` lines; a value is free of newlines; a key may repeat. Deadlines are absolute CLOCK_BOOTTIME nanoseconds of this machine (S8).
///
/// Guard to lease-service (`<run>/lease-service.guards`):
///
/// | verb | keys | meaning |
/// |---|---|---|
/// | `acquire` | holder, lock (VM lock file), lease (repeats, sorted: `lockspace\|resource` or, to share it, `lockspace\|resource\|shared`), disklock (repeats, one for each lease), generation (repeats: `lockspace\|G`), proofs (path of a JSON array of SignedProof, optional), wait (seconds, optional) | take all leases or none, and wait so long for those that others hold; lock files are held already |
/// | `adopt` | as `acquire`, lease values `lockspace\|resource\|lver\|generation` (and `\|shared`), deadline | after a lost connection: this is what I hold |
/// | `convert` | holder, lease (`lockspace\|resource\|shared` or `lockspace\|resource\|exclusive`) | share a lease that is held, or own one that is shared; whoever is about to share writes no more |
/// | `value` | holder, lease (`lockspace\|resource`), data (hexadecimal digits; left out: read) | the value kept beside a lease that is held; only its owner writes it |
/// | `taken` | holder | the sanlock daemon holds what `take` named, for me |
/// | `nottaken` | holder, result (sanlock's number), message | it does not, and holds nothing for me |
/// | `verify` | holder, number | read from the disk again whether the leases are mine: asked before a group that was paused goes on |
/// | `release` | holder | my process group is empty; give the leases back |
///
/// Lease-service to guard:
///
/// | verb | keys | meaning |
/// |---|---|---|
/// | `granted` | deadline, lease (`lockspace\|resource\|lver\|generation`, and `\|shared` if it is, repeats), iotimeout (seconds, the longest of their lockspaces) | all leases are yours until the deadline |
/// | `take` | library, run (the daemon's run directory), lease (as in `acquire`, repeats), place (`offset path`, one for each lease) | with sanlock's engine: nothing speaks against it; take them from the daemon, and answer `taken` or `nottaken`; then comes `granted` or `refused` |
/// | `drop` | | with sanlock's engine, after `release`: close the connection to the daemon, which releases the leases; `released` comes when the disk says so |
/// | `converted` | as `granted` | done; these are your leases now |
/// | `unchanged` | code, message | not converted; everything is as it was |
/// | `value` | lease, data | what it is, or is now: a whole sector |
/// | `novalue` | lease, code, message | not read, or not written for certain |
/// | `requested` | lease (`lockspace\|resource`), mode (`graceful` or `force`), by (name of a host, if known), lver | somebody asks for it; by force: end the group now |
/// | `deadline` | deadline | a verified renewal moved it |
/// | `verified` | as `granted`, number | each lease was read after the question: owner, generation and version are yours, until the deadline |
/// | `unverified` | number, code, message | that is not known: nothing goes on |
/// | `refused` | code, message | none was taken (or adoption failed: end the group at once) |
/// | `lost` | message | end the group now |
/// | `released` | | done |
///
/// Agent to guard (`<run>/guards/<holder>.sock`): `status`, `stop` (key `why`), `verify` (key number, which rises). Guard to agent: `status` with keys state (`acquiring`, `running`, `paused`, `ending`, `ended`), pid,
/// deadline, lease (repeats, as in `granted`), message, requested (`lockspace\|resource`, repeats: leases that somebody asks for); to `verify`: `verified` or `unverified` (keys message and number).
///
/// When it ends, the guard leaves `<run>/guards/<holder>.result` (written and renamed) in the same format: verb `ended` (the group was reaped; keys exit, released=`yes|no`, why) or
/// `refused` (nothing was ever started; keys code, message).
public struct GuardMessage: Hashable, Sendable {
    public var verb: String
    public var fields: [Field]

    public struct Field: Hashable, Sendable {
        public var key: String
        public var value: String
    }

    /// The longest message either side sends or accepts, in bytes.
    public static let maximumLength = 65536

    public init(_ verb: String, _ fields: [(String, String)] = []) {
        self.verb = verb
        self.fields = fields.map { Field(key: $0.0, value: $0.1) }
    }

    /// `nil` if the text has no verb or a line without `=`.
    public init?(text: String) {
        var lines = text.utf8.split(separator: UInt8(ascii: "\n"))[...]
        guard let first = lines.popFirst().map({ String(Substring($0)) }) else { return nil }
        verb = first
        fields = []
        fields.reserveCapacity(lines.count)
        for line in lines {
            guard let equals = line.firstIndex(of: UInt8(ascii: "=")) else { return nil }
            fields.append(Field(key: String(Substring(line[..<equals])), value: String(Substring(line[line.index(after: equals)...]))))
        }
    }

    public var text: String {
        var text = verb
        text += "\n"
        for field in fields {
            text += field.key
            text += "="
            text += field.value.utf8.contains(UInt8(ascii: "\n")) ? String(decoding: field.value.utf8.map { $0 == UInt8(ascii: "\n") ? UInt8(ascii: " ") : $0 }, as: UTF8.self) : field.value
            text += "\n"
        }
        return text
    }

    /// The first value of a key.
    public subscript(key: String) -> String? { fields.first { $0.key == key }?.value }

    /// Every value of a key, in order.
    public func all(_ key: String) -> [String] { fields.filter { $0.key == key }.map(\.value) }
}

/// Who holds a lease on a host: one guard, for one attempt of one VM or one term of the SPM role. Written `vm:web1:7`, `spm:<pool>:3`.
public struct Holder: Hashable, Codable, Sendable, Comparable, CustomStringConvertible {
    public enum Role: String, Codable, Sendable { case vm, spm }
    public var role: Role
    public var name: String
    public var attempt: UInt64

    public init(role: Role, name: String, attempt: UInt64) {
        self.role = role
        self.name = name
        self.attempt = attempt
    }

    public init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false).map { String(Substring($0)) }
        guard parts.count == 3, let role = Role(rawValue: parts[0]), let attempt = UInt64(parts[2]), !parts[1].isEmpty else { return nil }
        self.init(role: role, name: parts[1], attempt: attempt)
    }

    public var description: String { "\(role.rawValue):\(name):\(attempt)" }

    /// As `encode(to:)` does.
    public func write(to writer: inout JSONWriter) {
        writer.field("attempt", attempt)
        writer.field("name", name)
        writer.field("role", role.rawValue)
    }

    public static func < (a: Holder, b: Holder) -> Bool { (a.role.rawValue, a.name, a.attempt) < (b.role.rawValue, b.name, b.attempt) }
}

/// A lease as the guard protocol writes it: `lockspace|resource` or, once granted, `lockspace|resource|lver|generation`; with `|shared` behind it if it is shared.
public struct GuardLease: Hashable, Codable, Sendable {
    public var name: LeaseName
    public var lver: UInt64
    public var generation: UInt64
    /// `nil` in what earlier versions wrote, and for a lease that is not shared.
    private var isShared: Bool?

    public var mode: LeaseMode {
        get { isShared == true ? .shared : .exclusive }
        set { isShared = newValue == .shared ? true : nil }
    }

    public init(name: LeaseName, lver: UInt64 = 0, generation: UInt64 = 0, mode: LeaseMode = .exclusive) {
        self.name = name
        self.lver = lver
        self.generation = generation
        self.mode = mode
    }

    public init?(_ text: String) {
        var parts = text.utf8.split(separator: UInt8(ascii: "|"), omittingEmptySubsequences: false).map { String(Substring($0)) }
        var mode = LeaseMode.exclusive
        if parts.count == 3 || parts.count == 5 {
            guard let named = LeaseMode(rawValue: parts.removeLast()) else { return nil }
            mode = named
        }
        guard parts.count == 2 || parts.count == 4 else { return nil }
        self.init(name: LeaseName(lockspace: parts[0], resource: parts[1]), mode: mode)
        guard parts.count == 4 else { return }
        guard let lver = UInt64(parts[2]), let generation = UInt64(parts[3]) else { return nil }
        self.lver = lver
        self.generation = generation
    }

    /// As `encode(to:)` does.
    public func write(to writer: inout JSONWriter) {
        writer.field("generation", generation)
        writer.field("isShared", isShared)
        writer.field("lver", lver)
        writer.field("name") { $0.field("lockspace", name.lockspace); $0.field("resource", name.resource) }
    }

    public var request: String { "\(name.lockspace)|\(name.resource)\(suffix)" }
    public var grant: String { "\(name.lockspace)|\(name.resource)|\(lver)|\(generation)\(suffix)" }
    private var suffix: String { mode == .shared ? "|shared" : "" }
}
