import Bus
import Foundation
import Messages
import Testing

@Suite struct KeyTests {
    let bus: BusFixture
    init() throws { bus = try BusFixture() }

    private func mode(_ path: String) -> mode_t {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    @Test func aKeyFileIsForItsOwnerOnly() throws {
        let path = "\(bus.directory)/key.json"
        try bus.agentKeys.save(path)
        #expect(mode(path) == 0o600)
        let loaded = try KeyFile.load(path)
        #expect(loaded.entry == bus.agentKeys.entry && loaded.curveSecret == bus.agentKeys.curveSecret && loaded.signingSecret == bus.agentKeys.signingSecret)
        for bad: mode_t in [0o644, 0o640, 0o604, 0o700, 0o400] {
            chmod(path, bad)
            let error = #expect(throws: RequestError.self) { try KeyFile.load(path) }
            #expect(error?.message.contains("must be 0600") == true)
        }
        // Saving again puts it right, and leaves nothing beside it.
        try bus.agentKeys.save(path)
        #expect(mode(path) == 0o600)
        #expect(try FileManager.default.contentsOfDirectory(atPath: bus.directory) == ["key.json"])
    }

    @Test func aDamagedOrMissingFileIsNamed() throws {
        let path = "\(bus.directory)/key.json"
        #expect(#expect(throws: RequestError.self) { try KeyFile.load(path) }?.message.contains(path) == true)
        try Data(#"{"name":"x"}"#.utf8).write(to: URL(fileURLWithPath: path))
        chmod(path, 0o600)
        #expect(#expect(throws: RequestError.self) { try KeyFile.load(path) }?.code == RequestErrorCode.malformed.rawValue)
    }

    @Test func theAllowListFindsItsEntries() throws {
        let path = "\(bus.directory)/authorized.json"
        try bus.allow.save(path)
        let loaded = try AllowList.load(path)
        #expect(loaded.entries == bus.allow.entries)
        #expect(loaded.caller(curveKey: bus.agentKeys.curvePublic) == Caller(role: .agent, host: "host1"))
        #expect(loaded.caller(curveKey: bus.strangerKeys.curvePublic) == nil)
        #expect(loaded.entry(signing: bus.serverKeys.signingPublic)?.name == "fencing-service")
        #expect(loaded.entry(name: "placement-service")?.curve == bus.clientKeys.curvePublic)
    }

    private func proof(_ kind: ProofKind, host: String = "host1") -> Proof {
        Proof(id: "host1-3-1", kind: kind, host: host, hostID: 1, incarnations: Incarnation(3), generations: ["d": 7], statement: "off / \"confirmed\" é", time: Clock.rfc3339())
    }

    @Test(arguments: ProofKind.allCases) func aProofCountsOnlyFromItsMaker(_ kind: ProofKind) throws {
        let proof = proof(kind)
        let makers = kind == .ended ? [bus.agentKeys] : [bus.serverKeys]
        for keys in [bus.serverKeys, bus.clientKeys, bus.agentKeys, bus.strangerKeys] {
            let signed = try ProofSigning.sign(proof, with: keys)
            let isMaker = makers.contains { $0.signingPublic == keys.signingPublic }
            #expect(ProofSigning.verify(signed, allow: bus.allow) == (isMaker ? proof : nil))
            // Over the wire and back.
            let travelled = try JSON.decode(SignedProof.self, JSON.encode(signed))
            #expect(ProofSigning.verify(travelled, allow: bus.allow) == (isMaker ? proof : nil))
        }
    }

    @Test func anAgentSpeaksForItsOwnHostOnly() throws {
        let signed = try ProofSigning.sign(proof(.ended, host: "host2"), with: bus.agentKeys)
        #expect(ProofSigning.verify(signed, allow: bus.allow) == nil)
    }

    @Test func everyTamperedPartIsSeen() throws {
        let signed = try ProofSigning.sign(proof(.powerOff), with: bus.serverKeys)
        #expect(ProofSigning.verify(signed, allow: bus.allow) != nil)
        var statement = signed
        statement.statement = signed.statement.replacing("\"host1\"", with: "\"host2\"")
        #expect(statement.statement != signed.statement)
        var signature = signed
        signature.signature = String(signed.signature.reversed())
        var short = signed
        short.signature.removeLast()
        var foreign = signed
        foreign.signature.replaceSubrange(foreign.signature.startIndex...foreign.signature.startIndex, with: "g")
        var key = signed
        key.key = bus.agentKeys.signingPublic
        for bad in [statement, signature, short, foreign, key] { #expect(ProofSigning.verify(bad, allow: bus.allow) == nil) }
        // The readable copy is not what was signed, and is not believed.
        var copy = signed
        copy.proof.host = "host9"
        #expect(ProofSigning.verify(copy, allow: bus.allow)?.host == "host1")
    }
}
