/// The uuid of a VM's guest, made from its name: the same on every host and for every attempt, so that a process can be recognized without asking anybody.
///
/// A version 8 (custom) uuid over two FNV-1a hashes; it identifies, it protects nothing.
public enum GuestUUID {
    public static func of(vm name: String) -> String {
        var bytes = hash(name, 0xcbf2_9ce4_8422_2325) + hash(name, 0x6c62_272e_07bb_0142)
        bytes[6] = bytes[6] & 0x0f | 0x80
        bytes[8] = bytes[8] & 0x3f | 0x80
        var text = ""
        for (index, byte) in bytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text += "-" }
            text += byte < 16 ? "0" + String(byte, radix: 16) : String(byte, radix: 16)
        }
        return text
    }

    private static func hash(_ name: String, _ basis: UInt64) -> [UInt8] {
        let value = name.utf8.reduce(basis) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * $0)) }
    }
}
