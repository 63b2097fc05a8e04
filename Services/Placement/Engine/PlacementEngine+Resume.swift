import Messages

/// Letting a VM go on that its hypervisor has paused: its agent is asked, and its guard decides. The operator is answered when they have.
extension PlacementEngine {
    mutating func onResume(_ id: RequestID, _ name: String, _ turn: inout Turn) {
        do throws(RequestError) {
            var vm = try find(name)
            guard vm.phase == .up, let run = vm.run, let host = hosts[run.host] else { throw notResumable(vm) }
            guard canAsk(vm) else {
                throw RequestError(PlacementErrorCode.badState, "\(name) was last seen on \(run.host), whose agent cannot be asked now: nothing goes on", details: ["host": run.host])
            }
            guard vm.resuming == nil else {
                vms[name]?.resuming?.askers.append(id)
                return
            }
            let ask = nextID("resume", &vm)
            vm.resuming = Resuming(id: ask, askers: [id])
            vms[name] = vm
            turn.decide(name, "resume", why: "An operator asked for it; \(run.host) is asked, where its guard has its leases read again first.", evidence: runEvidence(vm), see: hostLink(vm))
            turn.perform(.resume(AgentTarget(host: run.host, bootID: run.bootID, endpoint: host.view.endpoints.agentRequests, key: host.view.key), VMAttempt(vm: name, attempt: run.attempt), id: ask))
        } catch {
            turn.reply(id, .failure(error))
        }
    }

    private func notResumable(_ vm: VMRecord) -> RequestError {
        let name = vm.definition.name
        let way = vm.isOver ? "; start it: bulwark vm start \(name)" : ""
        return RequestError(PlacementErrorCode.badState, "\(name) is \(view(vm).status.rawValue), so it cannot be resumed: \(vm.reason)\(way)")
    }

    mutating func onResumeAnswered(_ name: String, _ answer: AgentAnswer, _ turn: inout Turn) {
        guard let resuming = vms[name]?.resuming else { return }
        switch answer {
        case .failed(let error):
            refuseResumers(name, error, &turn)
        case .observed(let seen):
            vms[name]?.resuming = nil
            apply(seen, to: name, &turn)
            guard let vm = vms[name] else { return }
            for id in resuming.askers { turn.reply(id, .success(view(vm))) }
        }
    }

    mutating func refuseResumers(_ name: String, _ error: RequestError, _ turn: inout Turn) {
        guard let resuming = vms[name]?.resuming else { return }
        vms[name]?.resuming = nil
        for id in resuming.askers { turn.reply(id, .failure(error)) }
    }
}
