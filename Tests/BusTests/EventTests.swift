import Bus
import CZeroMQ
import Foundation
import Messages
import Testing

/// A publisher with a snapshot beside it, as every process has.
@ReactorActor
final class Publishing {
    let events: EventPublisher
    private(set) var server: RequestServer?
    var snapshots = 0
    /// Told before a snapshot is answered.
    var beforeSnapshot: (() -> Void)?

    init(_ bus: BusFixture, epoch: String, name: String = "p") throws {
        events = try EventPublisher(endpoints: [bus.ipc("\(name).events")], security: nil, source: "fencing-service", epoch: epoch)
        server = try RequestServer(endpoints: [bus.ipc("\(name).requests")], security: nil) { [unowned self] request in
            beforeSnapshot?()
            snapshots += 1
            let snapshot = Snapshot(epoch: epoch, seq: events.seq, typeSeq: events.typeSeq, body: Greeting(text: "state", count: Int(events.seq)))
            server?.send(ReplyFrame.encode(id: request.header.id, .success(snapshot)), to: request.returnPath)
        }
    }

    func publish(_ type: String, _ subject: String? = nil, _ text: String) { events.publish(Event(type, subject: subject, body: Greeting(text: text))) }

    func close() {
        events.close()
        server?.close()
    }
}

struct Snapshot: Codable, Sendable {
    var epoch: String
    var seq: UInt64
    var typeSeq: [String: UInt64]
    var body: Greeting
}

/// What a subscriber was told, in order: `S<seq>` for a snapshot, the text of an event.
typealias Story = Box<[String]>

@Suite(.timeLimit(.minutes(1))) struct EventTests {
    let bus: BusFixture
    init() throws { bus = try BusFixture() }

    private func follow(_ topics: [String], into story: Story) async throws -> EventSubscriber {
        try await EventSubscriber(events: bus.ipc("p.events"), requests: bus.ipc("p.requests"), serverKey: nil, security: nil, topics: topics) { reply in
            let snapshot = try? ReplyFrame.body(Snapshot.self, reply)
            story.change { $0.append("S\(snapshot?.seq ?? 999)") }
        } onEvent: { header, frame in
            guard header.type != "service.alive" else { return }
            let text = (try? EventFrame.body(Greeting.self, frame))?.text ?? "?"
            story.change { $0.append(text) }
        }
    }

    /// Publishes `service.alive` until the subscriber's connection stands, as a process does every second.
    private func settle(_ publishing: Publishing, _ subscriber: EventSubscriber, _ story: Story) async {
        await eventually {
            await publishing.events.publishAlive()
            return await subscriber.lastHeard != nil && !story.now.isEmpty
        }
    }

    @Test func aLateJoinerGetsTheStateAndThenEveryEvent() async throws {
        let publishing = try await Publishing(bus, epoch: "j.1")
        for number in 1...5 { await publishing.publish("host.status", "h\(number)", "\(number)") }
        let story = Story([])
        let subscriber = try await follow([""], into: story)
        await settle(publishing, subscriber, story)
        for number in 6...9 { await publishing.publish("host.status", "h\(number)", "\(number)") }
        await eventually { story.now == ["S5", "6", "7", "8", "9"] }
        #expect(await subscriber.rejoins == 0)
        await subscriber.close()
        await publishing.close()
    }

    @Test func anEventDuringTheSnapshotIsNeitherLostNorTwice() async throws {
        let publishing = try await Publishing(bus, epoch: "j.1")
        await ReactorActor.run {
            publishing.beforeSnapshot = {
                publishing.publish("host.status", "h1", "covered")
                publishing.beforeSnapshot = nil
            }
        }
        let story = Story([])
        let subscriber = try await follow([""], into: story)
        await settle(publishing, subscriber, story)
        await publishing.publish("host.status", "h1", "after")
        await eventually { story.now.last == "after" }
        #expect(story.now == ["S1", "after"])
        await subscriber.close()
        await publishing.close()
    }

    @Test func subscribersOfOneTypeSeeNoGapInOthers() async throws {
        let publishing = try await Publishing(bus, epoch: "j.1")
        let story = Story([])
        let subscriber = try await follow(["host.status"], into: story)
        await settle(publishing, subscriber, story)
        for number in 1...3 {
            await publishing.publish("vm.status", "web\(number)", "vm")
            await publishing.publish("host.status", "h2", "h2-\(number)")
        }
        await publishing.events.publishAlive()
        await eventually { story.now == ["S0", "h2-1", "h2-2", "h2-3"] }
        #expect(await subscriber.rejoins == 0)
        await subscriber.close()
        await publishing.close()
    }

    @Test func aRestartedPublisherIsTakenAnew() async throws {
        let first = try await Publishing(bus, epoch: "j.1")
        let story = Story([])
        let subscriber = try await follow(["host.status"], into: story)
        await settle(first, subscriber, story)
        await first.publish("host.status", nil, "before")
        await eventually { story.now == ["S0", "before"] }
        await first.close()
        let second = try await Publishing(bus, epoch: "j.2")
        await second.publish("host.status", nil, "unheard")
        await eventually {
            await second.events.publishAlive()
            return story.now.contains("S1")
        }
        await second.publish("host.status", nil, "again")
        await eventually { story.now.last == "again" }
        #expect(story.now == ["S0", "before", "S1", "again"])
        await subscriber.close()
        await second.close()
    }

    /// A publisher in another language that loses some of its events, the last ones among them, and says other things, too.
    @Test func lossIsMadeGoodByASnapshotAndNoiseIsSurvived() async throws {
        let position = Box<UInt64>(0)
        var server: RequestServer?
        server = try await ReactorActor.run {
            var made: RequestServer?
            made = try RequestServer(endpoints: [bus.ipc("p.requests")], security: nil) { request in
                let snapshot = Snapshot(epoch: "j.1", seq: position.now, typeSeq: ["t": position.now], body: Greeting(text: "state"))
                made?.send(ReplyFrame.encode(id: request.header.id, .success(snapshot)), to: request.returnPath)
            }
            return made
        }
        let story = Story([])
        let subscriber = try await follow([""], into: story)
        let endpoint = bus.ipc("p.events")
        let next = Box<[[String]]>([])
        let done = Box(false)
        let publishing = Task {
            try await onThread {
                let socket = RawSocket(ZMQ_PUB, endpoint, binds: true)
                while !done.now {
                    let messages = next.now
                    next.change { $0.removeFirst(messages.count) }
                    for message in messages { socket.send(message.map { Data($0.utf8) }) }
                    usleep(1000)
                }
            }
        }
        @Sendable func event(_ seq: Int) -> [String] {
            ["t", #"{"v":1,"source":"s","epoch":"j.1","seq":\#(seq),"typeSeq":\#(seq),"time":"","type":"t","body":{"text":"\#(seq)","count":1}}"#]
        }
        @Sendable func alive(_ seq: Int) -> [String] {
            [
                "service.alive",
                #"{"v":1,"source":"s","epoch":"j.1","seq":\#(seq),"typeSeq":0,"time":"","type":"service.alive","body":{"seq":\#(seq),"typeSeq":{"t":\#(seq)}}}"#,
            ]
        }
        await eventually {
            next.change { $0.append(alive(0)) }
            return await subscriber.lastHeard != nil && story.now == ["S0"]
        }
        position.change { $0 = 2 }
        next.change { $0 += [event(1), ["noise"], ["t", "no JSON"], ["t", "{}", "{}"], event(2)] }
        await eventually { story.now == ["S0", "1", "2"] }
        #expect(await subscriber.malformedCount == 3)
        position.change { $0 = 4 }
        next.change { $0 += [event(4)] }
        await eventually { story.now == ["S0", "1", "2", "S4"] }
        next.change { $0 += [event(5)] }
        await eventually { story.now.last == "5" }
        position.change { $0 = 9 }
        next.change { $0 += [alive(9)] }
        await eventually { story.now.last == "S9" }
        #expect(await subscriber.rejoins == 2)
        done.change { $0 = true }
        try await publishing.value
        await subscriber.close()
        await server?.close()
    }

    @Test func aSubscriberOverCurveGetsSnapshotAndEvents() async throws {
        let (events, requests) = (try BusFixture.tcp(), try BusFixture.tcp())
        let publisher = try await EventPublisher(endpoints: [events], security: bus.serverSecurity, source: "host-agent", epoch: "j.1")
        var server: RequestServer?
        let security = bus.serverSecurity
        server = try await ReactorActor.run {
            var made: RequestServer?
            made = try RequestServer(endpoints: [requests], security: security) { request in
                let snapshot = Snapshot(epoch: "j.1", seq: publisher.seq, typeSeq: publisher.typeSeq, body: Greeting(text: "state"))
                made?.send(ReplyFrame.encode(id: request.header.id, .success(snapshot)), to: request.returnPath)
            }
            return made
        }
        let story = Story([])
        let subscriber = try await EventSubscriber(
            events: events, requests: requests, serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.clientKeys), topics: ["agent."]
        ) { _ in
            story.change { $0.append("S") }
        } onEvent: { header, _ in
            story.change { $0.append(header.type) }
        }
        await eventually {
            await publisher.publishAlive()
            return await subscriber.lastHeard != nil && story.now == ["S"]
        }
        await publisher.publish(Event("agent.vms", subject: "host1", body: Nothing()))
        await eventually { story.now == ["S", "agent.vms"] }
        await subscriber.close()
        await server?.close()
        await publisher.close()
    }

    /// What nobody wants costs a number: whoever comes later sees how many there were.
    @Test func whatNobodySubscribedToIsNumbered() async throws {
        let endpoint = bus.ipc("numbered.events")
        let publisher = try await EventPublisher(endpoints: [endpoint], security: nil, source: "host-agent", epoch: "j.1")
        for _ in 0..<3 { await publisher.publish(Event("lease.lost", subject: "disk1", body: Nothing())) }
        #expect(await publisher.seq == 3)
        let received = Box<[UInt64]>([])
        let listening = Task {
            try await onThread {
                let subscriber = try BlockingSubscriber(endpoint: endpoint, topics: ["lease.acquired.disk1"])
                while received.now.isEmpty, let event = subscriber.next(timeout: .seconds(10)) {
                    let header = try EventFrame.decodeHeader(event.frame)
                    received.change { $0.append(header.seq) }
                }
            }
        }
        await eventually {
            await publisher.publish(Event("lease.acquired", subject: "disk2", body: Nothing()))
            await publisher.publish(Event("lease.acquired", subject: "disk1", body: Nothing()))
            return !received.now.isEmpty
        }
        try await listening.value
        let first = try #require(received.now.first)
        #expect(first > 4 && first % 2 == 1)
        await publisher.close()
    }

    @Test func eventsOverCurveReachKnownKeysOnly() async throws {
        let endpoint = try BusFixture.tcp()
        let publisher = try await EventPublisher(endpoints: [endpoint], security: bus.serverSecurity, source: "host-agent", epoch: "j.1")
        let bus = bus
        let received = Box<[String]>([])
        let done = Box(false)
        let listening = Task {
            try await onThread {
                let known = try BlockingSubscriber(
                    endpoint: endpoint, topics: ["agent.heartbeat.host1"], serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.clientKeys))
                let stranger = try BlockingSubscriber(endpoint: endpoint, topics: [""], serverKey: bus.serverKeys.curvePublic, security: bus.security(bus.strangerKeys))
                while let event = known.next(timeout: .seconds(10)), !done.now { received.change { $0.append(event.topic) } }
                return stranger.next(timeout: .zero) == nil
            }
        }
        await eventually {
            await publisher.publish(Event("agent.heartbeat", subject: "host2", body: Nothing()))
            await publisher.publish(Event("agent.heartbeat", subject: "host1", body: Nothing()))
            return received.now.count > 20
        }
        done.change { $0 = true }
        await publisher.publish(Event("agent.heartbeat", subject: "host1", body: Nothing()))
        #expect(try await listening.value)
        #expect(Set(received.now) == ["agent.heartbeat.host1"])
        await publisher.close()
    }

    @Test func aFrameHasTheFieldsOfTheContractInOrder() async throws {
        let endpoint = bus.ipc("events")
        let publisher = try await EventPublisher(endpoints: [endpoint], security: nil, source: "s", epoch: "j.1")
        let event = Box<(topic: String, frame: Data)?>(nil)
        let listening = Task {
            try await onThread {
                let next = try BlockingSubscriber(endpoint: endpoint, topics: ["host."]).next(timeout: .seconds(10))
                event.change { $0 = next }
            }
        }
        await eventually {
            await publisher.publish(Event("host.status", subject: "h2", body: Greeting(text: "a/b")))
            return event.now != nil
        }
        try await listening.value
        let (topic, frame) = try #require(event.now)
        #expect(topic == "host.status.h2")
        let header = try EventFrame.decodeHeader(frame)
        #expect(header.seq == header.typeSeq && header.seq >= 1 && header.epoch == "j.1" && header.source == "s" && header.type == "host.status")
        #expect(
            String(decoding: frame, as: UTF8.self)
                == #"{"body":{"count":1,"text":"a/b"},"epoch":"j.1","seq":\#(header.seq),"source":"s","time":"\#(header.time)","type":"host.status","typeSeq":\#(header.seq),"v":1}"#)
        #expect(header.time.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil)
        await publisher.close()
    }

    /// A body that is not JSON uses no number: nobody waits for it.
    @Test func anUnwritableEventLeavesNoGap() async throws {
        let endpoint = bus.ipc("unwritable.events")
        let publisher = try await EventPublisher(endpoints: [endpoint], security: nil, source: "s", epoch: "j.1")
        let (heard, over) = (Box(false), Box(false))
        let listening = Task {
            try await onThread {
                let subscriber = try BlockingSubscriber(endpoint: endpoint, topics: ["x"])
                while !over.now { if subscriber.next(timeout: .milliseconds(20)) != nil { heard.change { $0 = true } } }
            }
        }
        await eventually {
            await publisher.publish(Event("x", body: Nothing()))
            return heard.now
        }
        let before = await publisher.seq
        await publisher.publish(Event("x", body: Double.nan))
        #expect(await publisher.seq == before)
        #expect(await publisher.unwritable == 1)
        over.change { $0 = true }
        try await listening.value
        await publisher.close()
    }
}
