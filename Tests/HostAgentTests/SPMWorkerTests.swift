import HostAgentEngine
import Messages
import Testing

@Suite("The SPM's worker")
struct SPMWorkerTests {
    private var engine = SPMWorkerEngine<String>(pool: "p1", master: "d1", holder: "spm:p1:3", lver: 7)

    private func task(pool: String = "p1", lver: UInt64 = 7, path: String? = "/d1", lease: Bool = false) -> WorkerTask {
        let work: TaskWork = lease ? .leaseCreate(lease: LeaseName(lockspace: "d1", resource: "i1")) : .volumeCreate(domain: "d1", image: "i1", size: 4096, source: nil)
        return WorkerTask(task: TaskRun(pool: pool, task: "t1", term: 3, lver: lver, work: work), path: path)
    }

    private func sdm(holder: String? = "spm:p1:3", lver: UInt64 = 7) -> LeaseView {
        LeaseView(lease: LeaseName(lockspace: "d1", resource: "SDM"), path: "/d1/dom_md/leases", offset: 1 << 20, status: .exclusive, lver: lver, holder: holder)
    }

    private mutating func send(_ input: SPMWorkerEngine<String>.Input) -> [String] {
        engine.handle(input).map { step in
            switch step {
            case .build(_, let volume): "build \(volume.image).\(volume.lver) in \(volume.domain)"
            case .inspect(_, let lease, _): "inspect \(lease.lease.lockspace) \(lease.lease.resource)"
            case .publish(_, let volume): "publish \(volume.image).\(volume.lver)"
            case .createLease(_, let lease, _): "create \(lease.lease.resource) \(lease.lver ?? 0)"
            case .reply(_, .success(let body), let callers): "\(callers.joined(separator: "+")): \((body as? TaskResult)?.detail ?? "")"
            case .reply(_, .refused(let error), let callers): "\(callers.joined(separator: "+")): \(error.code)"
            }
        }
    }

    @Test mutating func aVolumeIsBuiltThenTheLeaseIsLookedAtThenItIsPublished() {
        #expect(send(.task("r1", task(), from: "a")) == ["build i1.7 in /d1"])
        #expect(send(.task("r1", task(), from: "b")) == [], "under way: only waited for")
        #expect(send(.built("r1", .built)) == ["inspect d1 SDM"])
        #expect(send(.inspected("r1", .success(sdm()))) == ["publish i1.7"])
        #expect(send(.published("r1", nil)) == ["a+b: volume i1 exists"])
        #expect(send(.task("r1", task(), from: "c")) == ["build i1.7 in /d1"], "a task can be given again")
        #expect(send(.built("r1", .isPublished)) == ["c: volume i1 exists"])
    }

    /// S12: nothing is published under a lease that is not this worker's any more.
    @Test(arguments: [(nil, 7), ("spm:p1:4", 7), ("spm:p1:3", 8)] as [(String?, UInt64)]) mutating func nothingIsPublishedByADeposedWorker(holder: String?, lver: UInt64) {
        _ = send(.task("r1", task(), from: "a"))
        _ = send(.built("r1", .built))
        #expect(send(.inspected("r1", .success(sdm(holder: holder, lver: lver)))) == ["a: spm.not-here"])
        #expect(send(.inspected("r1", .success(sdm()))) == [], "it is over")
    }

    @Test mutating func nothingIsPublishedWhenTheLeaseCannotBeSeen() {
        _ = send(.task("r1", task(), from: "a"))
        _ = send(.built("r1", .built))
        #expect(send(.inspected("r1", .failure(RequestError(LeaseErrorCode.io, "")))) == ["a: lease.io"])
    }

    @Test mutating func failuresAreTheTasks() {
        let error = RequestError(code: "storage.failed", message: "no space")
        _ = send(.task("r1", task(), from: "a"))
        #expect(send(.built("r1", .failed(error))) == ["a: task.failed"])
        _ = send(.task("r2", task(), from: "a"))
        _ = send(.built("r2", .built))
        _ = send(.inspected("r2", .success(sdm())))
        #expect(send(.published("r2", error)) == ["a: task.failed"])
    }

    @Test mutating func refusalsGoToWhoAsked() {
        _ = send(.task("r1", task(), from: "a"))
        #expect(send(.task("r1", task(lver: 6), from: "b")) == ["b: spm.not-here"])
        #expect(send(.task("r2", task(pool: "p2"), from: "b")) == ["b: spm.not-here"])
        #expect(send(.task("r3", task(path: nil), from: "b")) == ["b: request.malformed"])
        #expect(send(.built("r1", .isPublished)) == ["a: volume i1 exists"])
    }

    @Test mutating func aLeaseThatExistsIsCreated() {
        for (id, error, reply) in [("r1", nil, "a: lease i1 exists in d1"), ("r2", .exists, "a: lease i1 exists in d1"), ("r3", .notSPM, "a: spm.not-here")] as [(String, LeaseErrorCode?, String)] {
            #expect(send(.task(id, task(path: nil, lease: true), from: "a")) == ["create i1 7"])
            #expect(send(.leaseCreated(id, error.map { RequestError($0, "") })) == [reply])
        }
    }
}
