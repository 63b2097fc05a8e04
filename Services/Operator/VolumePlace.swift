import ArgumentParser

/// A place in a volume: `FILE[:OFFSET[:SIZE]]`. Numbers are bytes, or end in K, M or G; a colon of the file's own name is written `\:`.
struct VolumePlace: ExpressibleByArgument, Hashable {
    var path: String
    var offset: UInt64 = 0
    var size: UInt64?

    init(path: String, offset: UInt64 = 0, size: UInt64? = nil) {
        self.path = path
        self.offset = offset
        self.size = size
    }

    init?(argument: String) {
        var parts = [""]
        var isEscaped = false
        for character in argument {
            switch character {
            case "\\" where !isEscaped: isEscaped = true
            case ":" where !isEscaped: parts.append("")
            default:
                // A backslash means itself before anything but a colon or another one.
                if isEscaped, character != ":", character != "\\" { parts[parts.count - 1].append("\\") }
                parts[parts.count - 1].append(character)
                isEscaped = false
            }
        }
        if isEscaped { parts[parts.count - 1].append("\\") }
        guard (1...3).contains(parts.count), !parts[0].isEmpty else { return nil }
        path = parts[0]
        if parts.count > 1 {
            guard let bytes = ByteCount(argument: parts[1]) else { return nil }
            offset = bytes.value
        }
        if parts.count > 2 {
            guard let bytes = ByteCount(argument: parts[2]), bytes.value > 0 else { return nil }
            size = bytes.value
        }
    }
}

/// A number of bytes: `4096`, `4K`, `1M`, `2G`.
struct ByteCount: ExpressibleByArgument, Hashable {
    var value: UInt64

    init(_ value: UInt64) { self.value = value }

    init?(argument: String) {
        let units: [Character: Int] = ["K": 10, "M": 20, "G": 30]
        let shift = argument.last.flatMap { units[$0] }
        guard let number = UInt64(shift == nil ? argument[...] : argument.dropLast()), number < 1 << 33 || shift == nil else { return nil }
        value = number << (shift ?? 0)
    }
}
