@testable import FencingAgents
@testable import FencingEngine
import Bus
import Foundation
import Messages
import Synchronization
import Testing

/// A fence agent made of shell, and the runner around it.
@Suite struct FenceAgentTests {
    private let directory: String

    init() throws {
        // As every service does: an agent may end without having read its options.
        signal(SIGPIPE, SIG_IGN)
        directory = NSTemporaryDirectory() + "fence-agent-tests-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    private func agent(_ script: String) throws -> FenceAgent {
        let path = directory + "/fence_fake"
        // By a child: an agent that another test starts just now would inherit a file that this process writes, and until it executes this one is busy.
        let writer = Process()
        writer.executableURL = URL(fileURLWithPath: "/bin/sh")
        writer.arguments = ["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\"; chmod 755 \"$2\"", "sh", script, path]
        try writer.run()
        writer.waitUntilExit()
        return FenceAgent(directory: directory, lockDirectory: directory)
    }

    private func secret(_ text: String, mode: mode_t = 0o600) throws -> String {
        let path = directory + "/secret"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, mode)
        return path
    }

    private func device(_ secretFile: String? = nil) -> FenceDevice {
        FenceDevice(agent: "fence_fake", address: "10.0.0.1", username: "admin", secretFile: secretFile, options: ["lanplus": "1", "action": "reboot"])
    }

    private func remove() { try? FileManager.default.removeItem(atPath: directory) }

    @Test func optionsGoOverStandardInputAndThePasswordNowhereElse() throws {
        defer { remove() }
        let agent = try agent("cat > \(directory)/input; tr '\\0' ' ' < /proc/$$/cmdline > \(directory)/argv; env > \(directory)/env")
        #expect(agent.run("off", on: device(try secret("s3cret\nsecond line\n")), of: "host1", deadline: .seconds(10)) == .succeeded)
        #expect(try String(contentsOfFile: directory + "/input", encoding: .utf8) == "ip=10.0.0.1\nusername=admin\npassword=s3cret\nlanplus=1\naction=off\n")
        #expect(try !String(contentsOfFile: directory + "/argv", encoding: .utf8).contains("s3cret"))
        let environment = try String(contentsOfFile: directory + "/env", encoding: .utf8)
        #expect(environment.contains("PYTHONWARNINGS=ignore") && !environment.contains("s3cret"))
    }

    @Test func exitCodesMeanWhatTheFenceAgentAPISays() throws {
        defer { remove() }
        #expect(try agent("exit 0").run("status", on: device(), of: "h", deadline: .seconds(10)) == .succeeded)
        #expect(try agent("exit 2").run("status", on: device(), of: "h", deadline: .seconds(10)) == .readsOff)
        #expect(try agent("exit 2").run("off", on: device(), of: "h", deadline: .seconds(10)) == .failed("fence_fake off ended with exit status 2"))
        #expect(try agent("echo 'Timed out waiting to power OFF' >&2; exit 1").run("off", on: device(), of: "h", deadline: .seconds(10)) == .failed("Timed out waiting to power OFF"))
    }

    @Test func whatTheAgentSaysIsKeptWithoutThePassword() throws {
        defer { remove() }
        let end = try agent("echo 'login admin s3cret failed' >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1")
            .run("status", on: device(try secret("s3cret")), of: "h", deadline: .seconds(10))
        guard case .failed(let text) = end else { return #expect(Bool(false), "\(end)") }
        #expect(text.hasPrefix("login admin *** failed") && text.count <= 400)
    }

    @Test func theTimeBeforeAnAgentsWordsIsLeftOut() {
        #expect(FenceAgent.scrub("2026-11-21 02:45:46,482 ERROR: Failed: no status\n\n", of: nil) == "Failed: no status")
    }

    @Test func aSecretThatOthersCanReadIsNotUsed() throws {
        defer { remove() }
        let end = try agent("exit 0").run("off", on: device(try secret("x", mode: 0o644)), of: "h", deadline: .seconds(10))
        guard case .failed(let text) = end else { return #expect(Bool(false), "\(end)") }
        #expect(text.contains("0600"))
    }

    @Test func aHungAgentIsKilledWithAllThatItStarted() throws {
        defer { remove() }
        let mark = "fence-hang-\(UUID().uuidString)"
        let end = try agent("sh -c 'exec -a \(mark) sleep 300' 2>/dev/null & setsid sh -c 'sleep 299.\(UInt32.random(in: 1...9999))' & sleep 300").run("off", on: device(), of: "h", deadline: .milliseconds(500))
        guard case .timedOut = end else { return #expect(Bool(false), "\(end)") }
        // The lock is inherited by everything the agent started: it is free only when all of that is gone.
        #expect(try agent("exit 0").run("status", on: device(), of: "h", deadline: .seconds(2)) == .succeeded)
    }

    @Test func aNewRunWaitsForTheLockOfAnOlderOne() throws {
        defer { remove() }
        let agent = try agent("exit 0")
        let held = open(directory + "/h.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        #expect(flock(held, LOCK_EX) == 0)
        guard case .timedOut = agent.run("status", on: device(), of: "h", deadline: .milliseconds(200)) else { return #expect(Bool(false), "ran beside") }
        close(held)
        #expect(agent.run("status", on: device(), of: "h", deadline: .seconds(5)) == .succeeded)
    }

    @Test func namesAndOptionsThatAreNoneAreRefused() throws {
        defer { remove() }
        let agent = try agent("exit 0")
        var bad = device()
        bad.agent = "../../bin/sh"
        guard case .failed = agent.run("off", on: bad, of: "h", deadline: .seconds(1)) else { return #expect(Bool(false)) }
        var line = device()
        line.options = ["port": "1\naction=on"]
        guard case .failed = agent.run("off", on: line, of: "h", deadline: .seconds(1)) else { return #expect(Bool(false)) }
        var missing = device()
        missing.agent = "fence_missing"
        guard case .failed = agent.run("off", on: missing, of: "h", deadline: .seconds(1)) else { return #expect(Bool(false)) }
    }
}

@Suite struct DeviceIdentityTests {
    @Test func theGUIDIsReadFromIpmitoolsLine() {
        #expect(DeviceIdentity.guid(in: "System GUID   : 00112233445566778899AABBCCDDEEFF\n") == "00112233445566778899aabbccddeeff")
        #expect(DeviceIdentity.guid(in: "System GUID  : 00112233-4455-6677-8899-aabbccddeeff\nTimestamp : x") == "00112233445566778899aabbccddeeff")
        #expect(DeviceIdentity.guid(in: "Error: Unable to establish IPMI v2 / RMCP+ session") == nil)
    }

    @Test func thePasswordGoesByFile() {
        let device = FenceDevice(
            agent: "fence_ipmilan", address: "10.77.1.1", username: "admin", secretFile: "/x/secret", options: ["lanplus": "1", "cipher": "3", "ipport": "6623"])
        #expect(DeviceIdentity.arguments(device) == ["-I", "lanplus", "-H", "10.77.1.1", "-p", "6623", "-U", "admin", "-f", "/x/secret", "-C", "3", "mc", "guid", "dump"])
    }

    @Test(arguments: ["00112233445566778899aabbccddeeff", "33221100-5544-7766-8899-AABBCCDDEEFF", "ffeeddccbbaa99887766554433221100"])
    func theSameBytesInAnyOrderOfTheFieldAreTheSameMachine(known: String) {
        #expect(HardwareIdentity.same("00112233445566778899aabbccddeeff", known))
    }

    @Test func otherBytesAreAnotherMachine() {
        #expect(!HardwareIdentity.same("00112233445566778899aabbccddeefe", "00112233445566778899aabbccddeeff"))
        #expect(!HardwareIdentity.same("", ""))
    }
}

/// Real datagrams.
@Suite(.timeLimit(.minutes(1))) struct KdumpListenerTests {
    private final class Heard: Sendable {
        let addresses = Mutex<[String]>([])
        var count: Int { addresses.withLock { $0.count } }
    }

    @ReactorActor private func listener(_ address: String, _ heard: Heard) throws -> KdumpListener {
        try KdumpListener(address: address) { from in heard.addresses.withLock { $0.append(from) } }
    }

    private func wait(_ heard: Heard, for count: Int) async {
        let end = ContinuousClock.now + .seconds(20)
        while heard.count < count, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(5)) }
        #expect(heard.count == count)
    }

    /// As fence_kdump_send does: what the field's own `fence_kdump -o off` takes for a valid message.
    private func send(_ bytes: [UInt8], to port: UInt16, times: Int = 1) {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(descriptor) }
        var place = sockaddr_in()
        place.sin_family = sa_family_t(AF_INET)
        place.sin_port = port.bigEndian
        place.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        for _ in 0..<times {
            let sent = withUnsafePointer(to: &place) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(descriptor, bytes, bytes.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) } }
            #expect(sent == bytes.count)
        }
    }

    @Test(arguments: ["127.0.0.1:0", "[::]:0"]) func aMessageIsHeardWithItsSendersAddress(_ place: String) async throws {
        let heard = Heard()
        let listener = try await listener(place, heard)
        send([0x40, 0x2A, 0x30, 0x1B, 1, 0, 0, 0], to: await listener.port)
        await wait(heard, for: 1)
        #expect(heard.addresses.withLock { $0 } == ["127.0.0.1"])
        await listener.close()
    }

    @Test func whatIsNoMessageIsNotHeard() async throws {
        let heard = Heard()
        let listener = try await listener("127.0.0.1:0", heard)
        let port = await listener.port
        for bytes: [UInt8] in [[], [0x40], [0x1B, 0x30, 0x2A, 0x40, 0, 0, 0, 1], [0x40, 0x2A, 0x30, 0x1B, 2, 0, 0, 0], KdumpListener.message + [0], [UInt8](repeating: 0x40, count: 60_000)] {
            send(bytes, to: port)
        }
        // What comes last is read last.
        send(KdumpListener.message, to: port)
        await wait(heard, for: 1)
        await listener.close()
    }

    /// More than is read in a turn: nothing of it is forgotten that the kernel has kept.
    @Test func aBurstIsReadInTurns() async throws {
        let heard = Heard()
        let listener = try await listener("127.0.0.1:0", heard)
        send(KdumpListener.message, to: await listener.port, times: 100)
        await wait(heard, for: 100)
        await listener.close()
    }

    @Test func aPlaceThatCannotBeListenedToIsNamed() async throws {
        let heard = Heard()
        let first = try await listener("127.0.0.1:0", heard)
        let taken = "127.0.0.1:\(await first.port)"
        let error = await #expect(throws: RequestError.self) { _ = try await self.listener(taken, heard) }
        #expect(error?.message.contains(taken) == true)
        await first.close()
        for place in ["manager:7410", "0.0.0.0", "0.0.0.0:kdump", ":7410", ""] { #expect(KdumpListener.place(place) == nil) }
    }

    @Test func anAddressIsWrittenInOneWay() {
        #expect(KdumpListener.canonical("fd00:0:0::0001") == "fd00::1")
        #expect(KdumpListener.canonical("::ffff:10.0.0.7") == "10.0.0.7")
        #expect(KdumpListener.canonical("fe80::1%eth0") == "fe80::1")
        #expect(KdumpListener.canonical("10.0.0") == nil && KdumpListener.canonical("host1") == nil)
    }
}
