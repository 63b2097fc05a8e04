import CLinux
import Glibc

/// Lines to standard error, which is the guard's log file. Never blocks on anything else.
enum Log {
    /// Appends to a file from now on; standard input and output go to /dev/null and there.
    static func redirect(to path: String?) {
        let null = cl_open("/dev/null", O_RDWR | O_CLOEXEC, 0)
        if null >= 0 { dup2(null, 0) }
        guard let path else { return }
        let file = cl_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard file >= 0 else { return line("cannot open \(path): \(error(errno))") }
        dup2(file, 1)
        dup2(file, 2)
    }

    static func line(_ text: String) {
        let now = cl_boottime() / 1_000_000
        var fraction = String(now % 1000)
        while fraction.utf8.count < 3 { fraction = "0" + fraction }
        write("\(now / 1000).\(fraction) vm-guard[\(getpid())] \(text)\n", to: 2)
    }

    static func print(_ text: String) { write(text + "\n", to: 1) }

    static func error(_ number: Int32) -> String { String(cString: strerror(number)) }

    private static func write(_ text: String, to descriptor: Int32) {
        var text = text
        text.withUTF8 { _ = Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }
}
