/// Little-endian fields of on-disk records. Offsets are relative to the start of the record; the caller has checked the length.
extension ArraySlice<UInt8> {
    func integer<T: FixedWidthInteger>(at offset: Int, as type: T.Type = T.self) -> T {
        precondition(offset + MemoryLayout<T>.size <= count)
        return withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
    }

    /// The bytes up to the first NUL; `nil` if they are not UTF-8.
    func name(at offset: Int, length: Int = Names.length) -> String? {
        let field = self[(startIndex + offset)..<(startIndex + offset + length)]
        return String(validating: field.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// Whether these bytes are at `offset`; compared in words.
    func matches(_ other: [UInt8], at offset: Int) -> Bool {
        precondition(offset + other.count <= count)
        return withUnsafeBytes { bytes in
            other.withUnsafeBytes { other in
                let words = other.count / 8
                for word in 0..<words
                where bytes.loadUnaligned(fromByteOffset: offset + word * 8, as: UInt64.self) != other.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self) {
                    return false
                }
                return (words * 8..<other.count).allSatisfy { bytes[offset + $0] == other[$0] }
            }
        }
    }

    var isZero: Bool {
        withUnsafeBytes { bytes in
            let words = bytes.count / 8
            for word in 0..<words where bytes.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self) != 0 { return false }
            return bytes[(words * 8)...].allSatisfy { $0 == 0 }
        }
    }
}

extension [UInt8] {
    mutating func put(_ value: some FixedWidthInteger, at offset: Int) {
        withUnsafeMutableBytes { $0.storeBytes(of: value.littleEndian, toByteOffset: offset, as: type(of: value)) }
    }

    mutating func put(name: String, at offset: Int, length: Int = Names.length) {
        for (index, byte) in name.utf8.prefix(length).enumerated() { self[offset + index] = byte }
    }
}

/// Names on disk: at most 48 bytes, zero padded, no NUL needed when all are used.
public enum Names {
    public static let length = 48

    /// The whole field of a name.
    static func field(_ name: String) -> [UInt8] {
        var field = [UInt8](repeating: 0, count: length)
        field.put(name: name, at: 0)
        return field
    }

    /// Whether a name can be stored and read back: 1 to 48 bytes of UTF-8 without NUL.
    public static func isStorable(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= length && !name.utf8.contains(0)
    }
}
