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
    private var monitor: LivenessMonitor
    private var monitorTimer: (at: Instant, timer: TimerID)?
    private var subscribers: [String: EventSubscriber] = [:]
    /// By endpoint.
    private var clients: [String: RequestClient] = [:]
    private var spmSubscriber: EventSubscriber?
    private var spmHost: String?
    private var runningVMs: [String: Int] = [:]
    private var networkIsUp: Bool?

    /// How long another host's answer is awaited.
    private static let patience = Duration.seconds(3)

    init(policy: FencingPolicy, security: BusSecurity, agent: FenceAgent) throws {
        self.security = security
        self.agent = agent
        monitor = LivenessMonitor(policy: policy)
    }

    func start(_ shell: Shell, networkCheck: String, spm: ClusterFile.Endpoints?) {
        if !networkCheck.isEmpty { checkNetwork(networkCheck, shell) }
        guard let spm else { return }
        do {
            spmSubscriber = try EventSubscriber(
                events: spm.events, requests: nil, serverKey: nil, security: security, topics: ["pool.status"], onSnapshot: nil,
                onEvent: { [self] _, frame in
                    spmHost = (try? EventFrame.body(PoolView.self, frame))?.spm
                    for host in subscribers.keys { monitor.onLoad(of: host, vms: runningVMs[host] ?? 0, isSPM: host == spmHost) }
                })
        } catch {
            shell.setProblem("spm-coordinator", "spm-coordinator cannot be followed, the SPM host gets no further grace: \(error)")
        }
    }

    func perform(_ action: FencingAction, for shell: Shell) {
        switch action {
        case .watch(let watch): listen(watch, shell)
        case .unwatch(let host):
            monitor.unwatch(host)
            subscribers.removeValue(forKey: host)?.close()
        case .fence(let run): fence(run, shell)
        case .identify(let host, let device): identify(host, device, shell)
        case .askAcceptance(let question): ask(question, shell)
        case .readSectors(let question): read(question, shell)
        case .sign(let proof): sign(proof, shell)
        }
    }

    // MARK: Heartbeats

    private func listen(_ watch: HostWatch, _ shell: Shell) {
        guard monitor.watch(watch, at: shell.now) else { return }
        let host = watch.host
        subscribers.removeValue(forKey: host)?.close()
        do {
            subscribers[host] = try EventSubscriber(
                events: watch.events, requests: nil, serverKey: watch.key, security: security, topics: ["agent.heartbeat.\(host)", "agent.vms.\(host)"],
                onSnapshot: nil, onEvent: { [self] header, frame in onEvent(of: host, header, frame, shell) })
            shell.setProblem("events of \(host)", nil)
        } catch {
            shell.setProblem("events of \(host)", "\(host) cannot be listened to at \(watch.events): \(error)")
        }
        setMonitorTimer(shell)
    }

    private func onEvent(of host: String, _ header: EventHeader, _ frame: Data, _ shell: Shell) {
        switch header.type {
        case "agent.heartbeat":
            // Topics are prefixes: host1 also gets host10's.
            guard let heartbeat = try? EventFrame.body(AgentHeartbeat.self, frame), heartbeat.host == host else { return }
            for input in monitor.onHeartbeat(heartbeat, at: shell.now) { shell.submit(input) }
            setMonitorTimer(shell)
        case "agent.vms":
            guard let vms = try? EventFrame.body(AgentVMs.self, frame), vms.host == host else { return }
            runningVMs[host] = vms.vms.filter { $0.state != .stopped }.count
            monitor.onLoad(of: host, vms: runningVMs[host] ?? 0, isSPM: host == spmHost)
        default:
            break
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
        let agent = agent
        Blocking.run(
            "fence \(run.host)", { agent.run(run.action.rawValue, on: run.device, of: run.host, deadline: run.deadline) },
            then: { end in
                let outcome: FenceOutcome = switch end {
                case .succeeded: .succeeded
                case .readsOff: .readsOff
                case .failed(let text): .failed(text)
                case .timedOut(let text): .timedOut(text)
                }
                shell.submit(.fenceEnded(FenceResult(run: run.id, host: run.host, outcome: outcome)))
            })
    }

    private func identify(_ host: String, _ device: FenceDevice, _ shell: Shell) {
        Blocking.run(
            "identify \(host)", { DeviceIdentity.read(device) },
            then: { identity in
                switch identity {
                case .guid(let guid):
                    shell.setProblem("identity of \(host)", nil)
                    shell.submit(.identified(Identification(host: host, guid: guid, unsupported: false, detail: "")))
                case .unsupported(let why):
                    shell.submit(.identified(Identification(host: host, guid: nil, unsupported: true, detail: why)))
                case .unreadable(let why):
                    shell.setProblem("identity of \(host)", "the fence device of \(host) does not tell who it is (\(why)); it counts as unverified (S10)")
                    shell.submit(.identified(Identification(host: host, guid: nil, unsupported: false, detail: why)))
                }
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
        func answer(_ accepted: Bool?, _ detail: String) {
            shell.submit(.acceptance(AcceptanceAnswer(caseID: question.caseID, host: question.host, voter: question.voter, accepted: accepted, detail: detail)))
        }
        guard let voter = shell.engine.view(of: question.voter) else { return answer(nil, "no longer registered") }
        do {
            try client(voter.endpoints.agentRequests, voter.key, shell).request(
                "fence.accept", FenceAccept(host: question.host, caseID: question.caseID), timeout: Self.patience
            ) { result in
                switch result {
                case .success: answer(true, "")
                case .failure(let error): answer(error.code == RequestErrorCode.unknownOutcome.rawValue ? nil : false, error.description)
                }
            }
        } catch {
            answer(nil, "\(error)")
        }
    }

    private func read(_ question: SectorQuestion, _ shell: Shell) {
        func answer(_ sectors: [Sector]?) {
            shell.submit(.sectorsRead(SectorAnswer(serial: question.serial, host: question.host, reader: question.reader, sectors: sectors)))
        }
        guard let reader = shell.engine.view(of: question.reader) else { return answer(nil) }
        do {
            try client(reader.endpoints.leaseRequests, reader.key, shell).request(
                "lockspace.inspect", LockspaceRequest(lockspace: nil), timeout: Self.patience
            ) { result in
                guard case .success(let frame) = result, let list = try? ReplyFrame.body(LockspaceList.self, frame) else { return answer(nil) }
                answer(list.lockspaces.flatMap { lockspace in
                    lockspace.hosts.filter { $0.hostID == question.hostID }.map { slot in
                        Sector(
                            lockspace: lockspace.lockspace, generation: slot.generation, held: slot.state != .free, lastChange: slot.lastChange,
                            ioTimeout: slot.ioTimeout)
                    }
                })
            }
        } catch {
            answer(nil)
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
