import Bus
import FencingAgents
import FencingEngine
import Foundation
import Messages
import ServiceKit

/// Everything around the engine: the hosts that are listened to, the processes that are asked, the fence agents that are run.
@ReactorActor
final class FencingWorld {
    typealias Shell = EngineShell<FencingEngine>

    private let security: BusSecurity
    private let agent: FenceAgent
    /// Empty: there is none.
    private let softCommand: String
    private var monitor: LivenessMonitor
    private var monitorTimer: (at: Instant, timer: TimerID)?
    private var subscribers: [String: EventSubscriber] = [:]
    /// By endpoint.
    private var clients: [String: RequestClient] = [:]
    private var spmSubscriber: EventSubscriber?
    private var networkIsUp: Bool?
    private var kdump: KdumpListener?
    private var hello: ManagerHello?

    /// How long another host's answer is awaited.
    private static let patience = FenceRun.proxyPatience

    init(policy: FencingPolicy, security: BusSecurity, agent: FenceAgent, softCommand: String) throws {
        self.softCommand = softCommand
        self.security = security
        self.agent = agent
        monitor = LivenessMonitor(policy: policy)
    }

    func start(_ shell: Shell, networkCheck: String, kdumpListen: String, spm: ClusterFile.Endpoints?) {
        hello = ManagerHello(of: shell, security: security, saying: ManagerWords(heartbeat: shell.engine.currentPolicy.heartbeat))
        hello?.onAnswer = { shell.submit(.greeted(host: $0, refusal: $1)) }
        if !networkCheck.isEmpty { checkNetwork(networkCheck, shell) }
        if !kdumpListen.isEmpty { hearDumps(kdumpListen, shell) }
        guard let spm else { return }
        do {
            spmSubscriber = try EventSubscriber(
                events: spm.events, requests: nil, serverKey: nil, security: security, topics: ["pool.status"], onSnapshot: nil,
                onEvent: { [self] _, frame in
                    monitor.onPool(try? EventFrame.body(PoolView.self, frame))
                })
        } catch {
            shell.setProblem("spm-coordinator", "spm-coordinator cannot be followed, the SPM host gets no further grace: \(error)")
        }
    }

    func perform(_ action: FencingAction, for shell: Shell) {
        switch action {
        case .watch(let watch):
            if let view = shell.engine.view(of: watch.host) { hello?.note(view) }
            listen(watch, shell)
        case .unwatch(let host):
            monitor.unwatch(host)
            for problem in ["kdump of \(host)", "events of \(host)"] { shell.setProblem(problem, nil) }
            hello?.forget(host)
            subscribers.removeValue(forKey: host)?.close()
        case .fence(let run): fence(run, shell)
        case .identify(let question): identify(question, shell)
        case .askAcceptance(let question): ask(question, shell)
        case .askProxy(let question): ask(question, shell)
        case .softRestart(let restart): self.restart(restart, shell)
        case .saveShutdown(let host, let request):
            put("agent.shutdown", AgentShutdown(saving: true), to: host, { $0.agentRequests }, shell, timeout: .seconds(60), isForThisLife: true) {
                if case .failure(let error) = $0, !error.isUnknownOutcome { shell.submit(.savingAnswered(SavingAnswer(host: host, request: request, refusal: error.description))) }
            }
        case .callOffShutdown(let host):
            put("agent.shutdown", AgentShutdown(cancel: true, saving: true), to: host, { $0.agentRequests }, shell, isForThisLife: true) { _ in }
        case .readSectors(let question): read(question, shell)
        case .orderWatchdog(let host, let order): self.order(order, to: host, shell)
        case .sign(let proof): sign(proof, shell)
        }
    }

    // MARK: Heartbeats

    private func listen(_ watch: HostWatch, _ shell: Shell) {
        var watch = watch
        let host = watch.host
        let given = watch.dumpsFrom
        watch.dumpsFrom = given.compactMap(KdumpListener.canonical)
        shell.setProblem("kdump of \(host)", watch.dumpsFrom.count == given.count ? nil : "\(given.joined(separator: ", ")): not all of what \(host) says of its kdump are IP addresses; from the others nothing is heard")
        let isAnew = monitor.watch(watch, at: shell.now)
        setMonitorTimer(shell)
        guard isAnew else { return }
        subscribers.removeValue(forKey: host)?.close()
        do {
            subscribers[host] = try EventSubscriber(
                events: watch.events, requests: nil, serverKey: watch.key, security: security, topics: ["agent.heartbeat.\(host)", "agent.vms.\(host)"],
                onSnapshot: nil, onEvent: { [self] header, frame in onEvent(of: host, header, frame, shell) })
            shell.setProblem("events of \(host)", nil)
        } catch {
            shell.setProblem("events of \(host)", "\(host) cannot be listened to at \(watch.events): \(error)")
        }
    }

    private func onEvent(of host: String, _ header: EventHeader, _ frame: Data, _ shell: Shell) {
        switch header.type {
        case "agent.heartbeat":
            guard let heartbeat = try? EventFrame.body(AgentHeartbeat.self, frame) else { return }
            for input in monitor.onHeartbeat(heartbeat, of: host, at: shell.now) { shell.submit(input) }
            setMonitorTimer(shell)
            if hello?.hasGreeted(host, bootID: heartbeat.bootID) == false, let view = shell.engine.view(of: host) { hello?.greet(view) }
        case "agent.vms":
            if let vms = try? EventFrame.body(AgentVMs.self, frame) { for input in monitor.onVMs(vms, of: host) { shell.submit(input) } }
        default:
            break
        }
    }

    /// Without a listener dumps are not waited for: that is told, and no reason not to fence.
    private func hearDumps(_ address: String, _ shell: Shell) {
        do {
            kdump = try KdumpListener(address: address) { [self] sender in
                guard monitor.expectsDumps(from: sender) else { return }
                for input in monitor.onDumpMessage(from: sender, at: shell.now) { shell.submit(input) }
                setMonitorTimer(shell)
            }
            shell.setProblem("kdump", nil)
        } catch {
            shell.setProblem("kdump", "\(error.message); a crash dump keeps no host from being switched off; tried again")
            _ = Reactor.shared.after(.seconds(10)) { [self] in hearDumps(address, shell) }
        }
    }

    /// One timer, at the earliest time a detector asked for; heartbeats that put it off leave it, it then finds nothing to do.
    private func setMonitorTimer(_ shell: Shell) {
        guard let next = monitor.nextWake else { return }
        if let monitorTimer {
            guard next < monitorTimer.at else { return }
            Reactor.shared.cancel(monitorTimer.timer)
        }
        let timer = Reactor.shared.after(max(.zero, next - shell.now)) { [self] in
            monitorTimer = nil
            for input in monitor.onWake(at: shell.now) { shell.submit(input) }
            setMonitorTimer(shell)
        }
        monitorTimer = (next, timer)
    }

    // MARK: Fence devices

    private func fence(_ run: FenceRun, _ shell: Shell) {
        if let obstacle = shell.engine.obstacle(to: run) {
            let result = FenceResult(run: run.id, host: run.host, outcome: .failed(obstacle))
            return Reactor.shared.post { shell.submit(.fenceEnded(result)) }
        }
        var parts: [FencePart?] = run.devices.map { _ in nil }
        var owed = false
        func ended(_ positions: [Int], _ some: [FencePart], isOwed: Bool = false) {
            for (position, part) in zip(positions, some) { parts[position] = part }
            owed = owed || isOwed
            let all = parts.compactMap { $0 }
            if all.count == parts.count { shell.submit(.fenceEnded(FenceResult(run, all, isOwed: owed))) }
        }
        let proxied = run.proxied
        let own = run.devices.indices.filter { !proxied.contains($0) }
        if !own.isEmpty { agent.run(run.action, on: own.map { run.devices[$0] }, of: run.host, deadline: run.deadline) { ended(own, $0) } }
        guard !proxied.isEmpty, let proxy = run.proxy else { return }
        let began = shell.now
        put("fence.prepare", run.prepare, to: proxy, { $0.agentRequests }, shell, isForThisLife: true) { [self] reply in
            switch run.prepared(ReplyFrame.body(FenceTicket.self, reply, from: proxy), after: shell.now - began) {
            case .ended(let parts): ended(proxied, parts)
            case .run(let order):
                put("fence.run", order, to: proxy, { $0.agentRequests }, shell, timeout: order.deadline + Self.patience, isForThisLife: true) { reply in
                    let (parts, isOwed) = run.ran(ReplyFrame.body(FenceProxyResult.self, reply, from: proxy), after: shell.now - began)
                    ended(proxied, parts, isOwed: isOwed)
                }
            }
        }
    }

    /// The host's name is the command's one argument: it has no secret of ours.
    private func restart(_ restart: SoftRestart, _ shell: Shell) {
        var command = ChildProcess(softCommand, [restart.host], deadline: restart.deadline)
        command.ownPIDNamespace = true
        command.outputLimit = 4096
        let began = shell.now
        Blocking.run(
            "restart \(restart.host)", { [command] in FenceOutcome(ofCommand: command.run()) },
            then: { shell.submit(.softRestarted(SoftRestartResult(restart, $0, took: shell.now - began))) })
    }

    private func ask(_ question: ProxyQuestion, _ shell: Shell) {
        put("fence.prepare", FencePrepare(host: question.host, number: question.number), to: question.proxy, { $0.agentRequests }, shell, isForThisLife: true) {
            shell.submit(.proxyTold(ProxyAnswer(question, ReplyFrame.body(FenceTicket.self, $0, from: question.proxy))))
        }
    }

    private func identify(_ question: IdentityQuestion, _ shell: Shell) {
        let (host, device, index) = (question.host, question.device, question.index)
        let problem = "identity of \(host)" + (index == 0 ? "" : " (device \(index + 1))")
        func identified(_ identification: Identification) {
            let isUnreadable = identification.guid == nil && !identification.unsupported
            shell.setProblem(
                problem, isUnreadable ? "the fence device \(device.agent) at \(device.address) of \(host) does not tell who it is (\(identification.detail)); it counts as unverified (S10)" : nil)
            shell.submit(.identified(identification))
        }
        if let proxy = question.proxy {
            return put("fence.identify", FenceIdentify(host: host, device: device), to: proxy, { $0.agentRequests }, shell, timeout: .seconds(20), isForThisLife: true) {
                identified(Identification(question, ReplyFrame.body(FenceIdentity.self, $0, from: proxy)))
            }
        }
        let directory = agent.directory
        let definition = "definition of \(host)" + (index == 0 ? "" : " (device \(index + 1))")
        Blocking.run(
            "identify \(host)", { (DeviceIdentity.read(device), FenceMetadata.ask(device.agent, directory: directory)) },
            then: { identity, answer in
                let problems: [String] = switch answer {
                case .metadata(let metadata): metadata.problems(with: device)
                case .notInstalled: ["\(directory)/\(device.agent) is not installed on this machine"]
                case .unreadable(let why): [why]
                }
                shell.setProblem(definition, problems.isEmpty ? nil : "the fence device \(device.agent) at \(device.address) of \(host): \(problems.joined(separator: "; "))")
                identified(Identification(question, .success(identity.told)))
            })
    }

    // MARK: Other hosts

    private func client(_ endpoint: String, _ key: String?, _ shell: Shell) throws -> RequestClient {
        if let known = clients[endpoint] { return known }
        let made = try RequestClient(
            endpoint: endpoint, serverKey: key, security: security, from: shell.source, lineage: shell.lineage, term: shell.term)
        clients[endpoint] = made
        return made
    }

    private func ask(_ question: AcceptanceQuestion, _ shell: Shell) {
        put("fence.accept", FenceAccept(host: question.host, caseID: question.caseID), to: question.voter, { $0.agentRequests }, shell) {
            shell.submit(.acceptance(AcceptanceAnswer(question, $0)))
        }
    }

    private func order(_ order: WatchdogOrder, to host: String, _ shell: Shell) {
        put("watchdog.disarm", order, to: host, { $0.agentRequests }, shell) { _ in }
    }

    private func read(_ question: SectorQuestion, _ shell: Shell) {
        put("lockspace.inspect", LockspaceRequest(lockspace: nil), to: question.reader, { $0.leaseRequests }, shell) {
            shell.submit(.sectorsRead(SectorAnswer(question, ReplyFrame.body(LockspaceList.self, $0, from: question.reader))))
        }
    }

    /// What could not be sent is as good as unanswered (I4).
    private func put(
        _ type: String, _ body: any Encodable & Sendable, to host: String, _ endpoint: (HostEndpoints) -> String, _ shell: Shell,
        timeout: Duration = FencingWorld.patience, isForThisLife: Bool = false, _ completion: @escaping RequestClient.Completion
    ) {
        func fail(_ why: String) { completion(.failure(RequestError(RequestErrorCode.unknownOutcome, why))) }
        guard let view = shell.engine.view(of: host) else { return fail("no longer registered") }
        do {
            try client(endpoint(view.endpoints), view.key, shell).request(type, body, target: isForThisLife ? view.bootID : nil, timeout: timeout, completion: completion)
        } catch {
            fail("\(error)")
        }
    }

    // MARK: Proofs

    private func sign(_ proof: Proof, _ shell: Shell) {
        var proof = proof
        proof.time = Clock.rfc3339()
        do {
            shell.submit(.proofSigned(try ProofSigning.sign(proof, with: security.keys)))
            shell.setProblem("signing", nil)
        } catch {
            shell.setProblem("signing", "proof \(proof.id) cannot be signed: \(error)")
        }
    }

    // MARK: The manager's own network (S17)

    private func checkNetwork(_ interface: String, _ shell: Shell) {
        let up = NetworkInterface.isRunning(interface)
        if up != networkIsUp {
            networkIsUp = up
            let detail = up ? "" : "\(interface) is down, has no carrier or does not exist"
            shell.setProblem("network", up ? nil : "the manager's own network check fails: \(detail); nothing is fenced until it works")
            shell.submit(.network(ok: up, detail: detail))
        }
        _ = Reactor.shared.after(.milliseconds(500)) { [self] in checkNetwork(interface, shell) }
    }
}
