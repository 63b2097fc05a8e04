#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// Checks that bytes are one JSON object and finds chosen fields of it in a single pass, without building values.
///
/// The transport reads a header this way and leaves the body alone: at a tenth of the cost of a decoder, and with errors that name the field.
struct JSONScanner {
    enum Kind { case string, number, object, array, boolean, null }

    /// Where a field's value stands; a string's range lies between its quotes.
    struct Field {
        var name: String
        var kind: Kind
        var range: Range<Int>
        var hasEscapes: Bool
    }

    /// The chosen fields of an object; every accessor throws `request.malformed` that names the field.
    struct Object {
        let data: Data
        fileprivate(set) var fields: [Field] = []

        func field(_ name: String) -> Field? {
            for field in fields where field.name == name { return field.kind == .null ? nil : field }
            return nil
        }

        func optionalString(_ name: String) throws -> String? {
            guard let field = field(name) else { return nil }
            guard field.kind == .string else { throw JSONScanner.wrong(name, "must be a string") }
            guard !field.hasEscapes else {
                return try JSON.decode(String.self, bytes(field.range.lowerBound - 1..<field.range.upperBound + 1), under: name)
            }
            return data.withUnsafeBytes { String(decoding: UnsafeRawBufferPointer(rebasing: $0[field.range]), as: UTF8.self) }
        }

        func string(_ name: String) throws -> String {
            guard let value = try optionalString(name) else { throw JSONScanner.wrong(name, "is missing") }
            guard !value.isEmpty else { throw JSONScanner.wrong(name, "must not be empty") }
            return value
        }

        func optionalInteger<I: FixedWidthInteger>(_ name: String, _ type: I.Type) throws -> I? {
            guard let field = field(name) else { return nil }
            let text = data.withUnsafeBytes { String(decoding: UnsafeRawBufferPointer(rebasing: $0[field.range]), as: UTF8.self) }
            guard field.kind == .number, let value = I(text) else {
                throw JSONScanner.wrong(name, I.isSigned ? "must be an integer" : "must be a non-negative integer")
            }
            return value
        }

        func integer<I: FixedWidthInteger>(_ name: String, _ type: I.Type) throws -> I {
            guard let value = try optionalInteger(name, type) else { throw JSONScanner.wrong(name, "is missing") }
            return value
        }

        func boolean(_ name: String) throws -> Bool {
            guard let field = field(name) else { throw JSONScanner.wrong(name, "is missing") }
            guard field.kind == .boolean else { throw JSONScanner.wrong(name, "must be true or false") }
            return field.range.count == 4
        }

        /// Where an object's value stands in ``data``.
        func object(_ name: String) throws -> Range<Int> {
            guard let field = field(name) else { throw JSONScanner.wrong(name, "is missing") }
            guard field.kind == .object else { throw JSONScanner.wrong(name, "must be an object") }
            return field.range
        }

        func bytes(_ range: Range<Int>) -> Data { data.subdata(in: data.startIndex + range.lowerBound..<data.startIndex + range.upperBound) }
    }

    /// Nesting beyond this is refused: the scanner recurses.
    static let maximumDepth = 128

    private let bytes: UnsafeRawBufferPointer
    private var at = 0

    private init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// - Parameter names: the fields to keep; one of them twice is refused, other fields are checked for syntax and skipped.
    static func object(_ data: Data, fields names: [String]) throws -> Object {
        var object = Object(data: data)
        object.fields.reserveCapacity(names.count)
        try data.withUnsafeBytes { bytes in
            var scanner = JSONScanner(bytes)
            scanner.skipSpace()
            guard scanner.peek == UInt8(ascii: "{") else { throw scanner.broken("an object is expected") }
            try scanner.members(depth: 1) { field in
                guard names.contains(field.name) else { return }
                guard !object.fields.contains(where: { $0.name == field.name }) else { throw wrong(field.name, "appears twice") }
                object.fields.append(field)
            }
            scanner.skipSpace()
            guard scanner.at == bytes.count else { throw scanner.broken("something follows the object") }
        }
        return object
    }

    static func wrong(_ field: String, _ problem: String) -> RequestError {
        RequestError(RequestErrorCode.malformed, "\(field) \(problem)", details: ["field": field])
    }

    private func broken(_ why: String) -> RequestError {
        RequestError(RequestErrorCode.malformed, "frame: not JSON, \(why) at byte \(at)", details: ["field": "frame"])
    }

    /// The next byte; 0, which stands nowhere in JSON, at the end.
    private var peek: UInt8 { at < bytes.count ? bytes[at] : 0 }

    private mutating func skipSpace() {
        while at < bytes.count {
            switch bytes[at] {
            case 0x20, 0x09, 0x0A, 0x0D: at += 1
            default: return
            }
        }
    }

    /// At the opening brace; ends behind the closing one.
    private mutating func members(depth: Int, _ visit: (Field) throws -> Void) throws {
        at += 1
        skipSpace()
        if peek == UInt8(ascii: "}") { return at += 1 }
        while true {
            guard peek == UInt8(ascii: "\"") else { throw broken("a field name is expected") }
            let key = try string()
            // Only names without escapes are looked at: ours have none, and an escaped one is an unknown field at worst.
            let name = String(decoding: UnsafeRawBufferPointer(rebasing: bytes[key.range]), as: UTF8.self)
            skipSpace()
            guard peek == UInt8(ascii: ":") else { throw broken("':' is expected") }
            at += 1
            var field = try value(depth: depth)
            field.name = name
            try visit(field)
            skipSpace()
            switch peek {
            case UInt8(ascii: ","):
                at += 1
                skipSpace()
            case UInt8(ascii: "}"): return at += 1
            default: throw broken("',' or '}' is expected")
            }
        }
    }

    private mutating func elements(depth: Int) throws {
        at += 1
        skipSpace()
        if peek == UInt8(ascii: "]") { return at += 1 }
        while true {
            _ = try value(depth: depth)
            skipSpace()
            switch peek {
            case UInt8(ascii: ","): at += 1
            case UInt8(ascii: "]"): return at += 1
            default: throw broken("',' or ']' is expected")
            }
        }
    }

    private mutating func value(depth: Int) throws -> Field {
        skipSpace()
        guard depth < Self.maximumDepth else { throw broken("nested more than \(Self.maximumDepth) deep") }
        let start = at
        func field(_ kind: Kind) -> Field { Field(name: "", kind: kind, range: start..<at, hasEscapes: false) }
        switch peek {
        case UInt8(ascii: "\""): return try string()
        case UInt8(ascii: "{"):
            try members(depth: depth + 1) { _ in }
            return field(.object)
        case UInt8(ascii: "["):
            try elements(depth: depth + 1)
            return field(.array)
        case UInt8(ascii: "t"):
            try word("true")
            return field(.boolean)
        case UInt8(ascii: "f"):
            try word("false")
            return field(.boolean)
        case UInt8(ascii: "n"):
            try word("null")
            return field(.null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            try number()
            return field(.number)
        default: throw broken("a value is expected")
        }
    }

    private mutating func word(_ word: StaticString) throws {
        for offset in 0..<word.utf8CodeUnitCount {
            guard peek == word.utf8Start[offset] else { throw broken("a value is expected") }
            at += 1
        }
    }

    private mutating func number() throws {
        if peek == UInt8(ascii: "-") { at += 1 }
        if peek == UInt8(ascii: "0") { at += 1 } else { try digits() }
        if peek == UInt8(ascii: ".") {
            at += 1
            try digits()
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            at += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { at += 1 }
            try digits()
        }
    }

    private mutating func digits() throws {
        let start = at
        while (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(peek) { at += 1 }
        guard at > start else { throw broken("a digit is expected") }
    }

    /// At the opening quote; ends behind the closing one.
    private mutating func string() throws -> Field {
        at += 1
        let start = at
        var escapes = false
        var ascii = true
        while at < bytes.count {
            skipPlainText()
            guard at < bytes.count else { break }
            let byte = bytes[at]
            switch byte {
            case UInt8(ascii: "\""):
                let range = start..<at
                if !ascii, String(validating: bytes[range], as: UTF8.self) == nil { throw broken("a string is not UTF-8") }
                at += 1
                return Field(name: "", kind: .string, range: range, hasEscapes: escapes)
            case UInt8(ascii: "\\"):
                escapes = true
                at += 1
                try escape()
            case ..<0x20: throw broken("a control character in a string")
            default:
                if byte >= 0x80 { ascii = false }
                at += 1
            }
        }
        throw broken("a string does not end")
    }

    /// Eight bytes at a time, as long as each is ASCII and none a quote, a backslash or a control character. (A borrow may stop it early, never late.)
    private mutating func skipPlainText() {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highBits = ones &* 0x80
        while at + 8 <= bytes.count {
            let word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            let quote = word ^ (ones &* 0x22)
            let backslash = word ^ (ones &* 0x5C)
            let special = word | ((quote &- ones) & ~quote) | ((backslash &- ones) & ~backslash) | ((word &- ones &* 0x20) & ~word)
            guard special & highBits == 0 else { return }
            at += 8
        }
    }

    private mutating func escape() throws {
        switch peek {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            at += 1
        case UInt8(ascii: "u"):
            at += 1
            for _ in 0..<4 {
                switch peek {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"): at += 1
                default: throw broken("\\u needs four hexadecimal digits")
                }
            }
        default: throw broken("an unknown escape")
        }
    }
}
