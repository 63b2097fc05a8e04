import Bus
import Foundation
import Messages
import Testing

@Suite(.timeLimit(.minutes(1))) struct RequestTests {
    let bus: BusFixture
    init() throws { bus = try BusFixture() }

    @Test func anIpcRoundTripIsAnOperatorsUnlessItNamesAService() async throws {
        let endpoint = bus.ipc("requests")
        let server = try await echoServer([endpoint])
        let replies = try await onThread {
            try [nil, "placement-service", "spm-coordinator", "domain-monitor", "host-agent", "host2/host-agent", "somebody"].map { (from: String?) in
                let client = try BlockingClient(endpoint: endpoint, from: from)
                return try ReplyFrame.body(Echo.self, client.call("greet", Greeting(text: "é\"\\\n/"), timeout: .seconds(5)))
            }
        }
        #expect(replies.map(\.role) == [.operator_, .service, .service, .service, .agent, .agent, .operator_])
        #expect(replies.map(\.host) == [nil, nil, nil, nil, nil, "host2", nil])
        #expect(replies.allSatisfy { $0.text == "é\"\\\n/" })
        var status = stat()
        #expect(stat("\(bus.directory)/requests", &status) == 0 && status.st_mode & 0o777 == 0o600)
        await server.close()
    }

    @Test func lineageAndTermReachTheReceiver() async throws {
        let endpoint = bus.ipc("requests")
        let server = try await echoServer([endpoint])
        let result = Box<Result<Data, RequestError>?>(nil)
        let client = try await RequestClient(endpoint: endpoint, serverKey: nil, security: nil, from: "fencing-service", lineage: "journal", term: 7)
        await client.request("greet", Greeting(text: "x"), timeout: .seconds(5)) { outcome in result.change { $0 = outcome } }
        await eventually { result.now != nil }
        let echo = try ReplyFrame.body(Echo.self, #require(result.now).get())
        #expect(echo == Echo(text: "x", role: .service, host: nil, from: "fencing-service", lineage: "journal", term: 7))
        await client.close()
        await server.close()
    }

    @Test func theKeyOfATcpPeerSaysItsRoleAndHost() async throws {
        let endpoint = try BusFixture.tcp()
        let server = try await echoServer([endpoint, bus.ipc("requests")], bus.serverSecurity)
        let bus = bus
        let agent = try await onThread {
            let client = try BlockingClient(endpoint: endpoint, serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.agentKeys), from: "fencing-service")
            return try ReplyFrame.body(Echo.self, client.call("greet", Greeting(text: "x"), timeout: .seconds(5)))
        }
        #expect(agent.role == .agent && agent.host == "host1")
        let service = try await onThread {
            let client = try BlockingClient(endpoint: endpoint, serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.clientKeys), from: "placement-service")
            return try ReplyFrame.body(Echo.self, client.call("greet", Greeting(text: "x"), timeout: .seconds(5)))
        }
        #expect(service.role == .service && service.from == "placement-service")
        let refusal = await #expect(throws: RequestError.self) {
            try await onThread {
                let client = try BlockingClient(endpoint: endpoint, serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.clientKeys), from: "fencing-service")
                _ = try client.call("greet", Greeting(text: "x"), timeout: .seconds(5))
            }
        }
        #expect(refusal?.code == RequestErrorCode.forbidden.rawValue)
        await server.close()
    }

    @Test func anUnknownKeyIsNotHeardAndARemovedOneNoLonger() async throws {
        let endpoint = try BusFixture.tcp()
        let seen = Box<[IncomingRequest]>([])
        let server = try await echoServer([endpoint], bus.serverSecurity, seen: seen)
        let bus = bus
        let stranger = await #expect(throws: RequestError.self) {
            try await onThread {
                let client = try BlockingClient(endpoint: endpoint, serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.strangerKeys))
                _ = try client.call("greet", Greeting(text: "x"), timeout: .milliseconds(700))
            }
        }
        #expect(stranger?.code == RequestErrorCode.unknownOutcome.rawValue)
        #expect(seen.now.isEmpty)
        let without = await #expect(throws: RequestError.self) {
            try await onThread { _ = try BlockingClient(endpoint: endpoint).call("greet", Greeting(text: "x"), timeout: .milliseconds(700)) }
        }
        #expect(without?.code == RequestErrorCode.unknownOutcome.rawValue)
        #expect(seen.now.isEmpty)

        let call: @Sendable () throws -> Void = {
            let client = try BlockingClient(endpoint: endpoint, serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.agentKeys))
            _ = try client.call("greet", Greeting(text: "x"), timeout: .seconds(5))
        }
        try await onThread(call)
        // A peer that is connected already: its key leaves the list between two requests.
        let connected = try await RequestClient(
            endpoint: endpoint, serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.clientKeys), from: nil, lineage: nil, term: nil)
        let outcomes = Box<[String]>([])
        for number in 1...2 {
            await connected.request("greet", Greeting(text: "x"), timeout: .seconds(5)) { outcome in
                switch outcome {
                case .success: outcomes.change { $0.append("answered") }
                case .failure(let error): outcomes.change { $0.append(error.code) }
                }
            }
            await eventually { outcomes.now.count == number }
            await server.update(allow: AllowList(entries: [bus.serverKeys.entry]))
        }
        #expect(outcomes.now == ["answered", RequestErrorCode.forbidden.rawValue])
        #expect(seen.now.count == 2)
        await connected.close()
        await server.close()
    }

    @Test func anEndpointThatOthersReachNeedsKeys() async throws {
        for endpoint in ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://10.77.0.254:7301"] {
            let error = await #expect(throws: RequestError.self) { _ = try await echoServer([endpoint]) }
            #expect(error?.message.contains("has no keys") == true)
        }
        let server = try await echoServer([BusFixture.tcp()])
        await server.close()
    }

    @Test func pathsAreCheckedAndStaleSocketsReplaced() async throws {
        let long = await #expect(throws: RequestError.self) { _ = try await echoServer(["ipc:///tmp/" + String(repeating: "x", count: 103)]) }
        #expect(long?.message.contains("108 bytes") == true)
        try Data("precious".utf8).write(to: URL(fileURLWithPath: "\(bus.directory)/file"))
        let file = await #expect(throws: RequestError.self) { _ = try await echoServer([bus.ipc("file")]) }
        #expect(file?.message.contains("not a socket") == true)
        #expect(FileManager.default.fileExists(atPath: "\(bus.directory)/file"))

        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(bus.directory)/stale".utf8) }
        let stale = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let bound = withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(stale, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) } }
        #expect(bound == 0)
        close(stale)
        let endpoint = bus.ipc("stale")
        let server = try await echoServer([endpoint])
        _ = try await onThread { try BlockingClient(endpoint: endpoint).call("greet", Greeting(text: "x"), timeout: .seconds(5)) }
        await server.close()
    }

    @Test func aRequestSentBeforeTheServerExistsStillArrives() async throws {
        let endpoint = bus.ipc("late")
        let client = try await RequestClient(endpoint: endpoint, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        let texts = Box<[String]>([])
        for number in 0..<5 {
            await client.request("greet", Greeting(text: "\(number)"), timeout: .seconds(20)) { outcome in
                let text = (try? outcome.get()).flatMap { try? ReplyFrame.body(Echo.self, $0) }?.text ?? "failed"
                texts.change { $0.append(text) }
            }
        }
        let server = try await echoServer([endpoint])
        await eventually { texts.now.count == 5 }
        #expect(texts.now == ["0", "1", "2", "3", "4"])
        await client.close()
        await server.close()
    }

    @Test func anUnansweredRequestIsRepeatedWithTheSameBytesAndThenUnknown() async throws {
        let endpoint = bus.ipc("silent")
        let seen = Box<[IncomingRequest]>([])
        let server = try await RequestServer(endpoints: [endpoint], security: nil) { request in seen.change { $0.append(request) } }
        let client = try await RequestClient(endpoint: endpoint, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        let result = Box<[Result<Data, RequestError>]>([])
        await client.request("vm.start", Greeting(text: "x"), id: "fixed", timeout: .milliseconds(1500), resend: .milliseconds(50)) { outcome in
            result.change { $0.append(outcome) }
        }
        await eventually { result.now.count == 1 }
        guard case .failure(let error) = try #require(result.now.first) else { return #expect(Bool(false), "a reply came") }
        #expect(error.code == RequestErrorCode.unknownOutcome.rawValue)
        #expect(seen.now.count >= 3)
        #expect(Set(seen.now.map(\.frame)).count == 1 && seen.now.allSatisfy { $0.header.id == "fixed" && $0.header.timeout == 1500 })
        // A late reply is dropped.
        let path = try #require(seen.now.first).returnPath
        await server.send(ReplyFrame.encode(id: "fixed", .done), to: path)
        await eventually { await client.strayReplies == 1 }
        #expect(result.now.count == 1)
        await client.close()
        await server.close()
    }

    @Test func aRequestSurvivesARestartOfTheServer() async throws {
        let endpoint = bus.ipc("restarting")
        let seen = Box<[IncomingRequest]>([])
        let silent = try await RequestServer(endpoints: [endpoint], security: nil) { request in seen.change { $0.append(request) } }
        let client = try await RequestClient(endpoint: endpoint, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        let result = Box<Result<Data, RequestError>?>(nil)
        await client.request("greet", Greeting(text: "x"), timeout: .seconds(20), resend: .milliseconds(100)) { outcome in result.change { $0 = outcome } }
        await eventually { !seen.now.isEmpty }
        await silent.close()
        let server = try await echoServer([endpoint], seen: seen)
        await eventually { result.now != nil }
        #expect(throws: Never.self) { try #require(result.now).get() }
        #expect(Set(seen.now.map(\.header.id)).count == 1)
        await client.close()
        await server.close()
    }

    @Test func manyRequestsAreOutstandingAtOnceAndRefusalsAreErrors() async throws {
        let endpoint = bus.ipc("many")
        let server = try await echoServer([endpoint])
        let client = try await RequestClient(endpoint: endpoint, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        let texts = Box<Set<String>>([])
        let refusals = Box<[RequestError]>([])
        await ReactorActor.run {
            for number in 0..<2000 {
                client.request("greet", Greeting(text: "\(number)"), timeout: .seconds(30)) { outcome in
                    let text = (try? outcome.get()).flatMap { try? ReplyFrame.body(Echo.self, $0) }?.text ?? "failed"
                    texts.change { $0.insert(text) }
                }
            }
            client.request("greet", ["text": 3], timeout: .seconds(30)) { outcome in
                if case .failure(let error) = outcome { refusals.change { $0.append(error) } }
            }
            client.request("greet", Greeting(text: String(repeating: "x", count: 1 << 20)), timeout: .seconds(30)) { outcome in
                if case .failure(let error) = outcome { refusals.change { $0.append(error) } }
            }
        }
        await eventually { texts.now.count == 2000 && refusals.now.count == 2 }
        #expect(!texts.now.contains("failed"))
        #expect(Set(refusals.now.map(\.code)) == [RequestErrorCode.malformed.rawValue, RequestErrorCode.tooLarge.rawValue])
        #expect(refusals.now.contains { $0.details?["field"]?.hasPrefix("body") == true })
        await client.close()
        await server.close()
    }

    @Test func closingAClientEndsWhatIsOutstandingAsUnknown() async throws {
        let client = try await RequestClient(endpoint: bus.ipc("nobody"), serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        let codes = Box<[String]>([])
        for _ in 0..<3 {
            await client.request("greet", Greeting(text: "x"), timeout: .seconds(30)) { outcome in
                if case .failure(let error) = outcome { codes.change { $0.append(error.code) } }
            }
        }
        await client.close()
        await eventually { codes.now.count == 3 }
        #expect(Set(codes.now) == [RequestErrorCode.unknownOutcome.rawValue])
    }
}

extension ReactorActor {
    /// Runs a few steps of a test in one turn of the reactor.
    static func run<T: Sendable>(_ work: @ReactorActor @Sendable () throws -> T) async rethrows -> T { try await work() }
}
