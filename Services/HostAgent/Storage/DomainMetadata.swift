/// The metadata of a file domain: sorted `KEY=value` lines and their SHA-1 (an oVirt V5 domain).
public struct DomainMetadata: Hashable, Sendable {
    public private(set) var values: [String: String]

    /// For a new domain.
    public init(domain: String, name: String, path: String) {
        values = [
            "ALIGNMENT": "1048576", "BLOCK_SIZE": "512", "CLASS": "Data", "DESCRIPTION": name.split(separator: "\n").joined(separator: " "), "IOOPTIMEOUTSEC": "10",
            "LEASERETRIES": "3", "LEASETIMESEC": "60", "LOCKPOLICY": "", "LOCKRENEWALINTERVALSEC": "5", "POOL_UUID": "", "REMOTE_PATH": path,
            "ROLE": "Regular", "SDUUID": domain, "TYPE": "POSIXFS", "VERSION": "5",
        ]
    }

    /// - Returns: `nil` if a line has no `=`, or the checksum is missing or wrong.
    public init?(text: String) {
        values = [:]
        var checksum: String?
        for line in text.split(separator: "\n") {
            guard let equals = line.firstIndex(of: "=") else { return nil }
            let value = String(line[line.index(after: equals)...])
            if line[..<equals] == Self.checksumKey { checksum = value } else { values[String(line[..<equals])] = value }
        }
        guard let checksum, checksum == Self.checksum(of: lines) else { return nil }
    }

    /// Uuid of the domain.
    public var domain: String { values["SDUUID"] ?? "" }

    public var text: String { (lines + ["\(Self.checksumKey)=\(Self.checksum(of: lines))"]).map { $0 + "\n" }.joined() }

    private static let checksumKey = "_SHA_CKSUM"

    private var lines: [String] { values.keys.sorted().map { "\($0)=\(values[$0] ?? "")" } }

    private static func checksum(of lines: [String]) -> String { SHA1.hexadecimal(Array(lines.joined().utf8)) }
}
