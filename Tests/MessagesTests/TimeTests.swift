import Messages
import Testing

@Suite struct TimeTests {
    /// A request with an absurd timeout, a proof with an absurd age: no process ends of it.
    @Test func absurdNumbersStopAtTheEnds() {
        let most = Duration(nanoseconds: .max), least = Duration(nanoseconds: .min)
        #expect(Duration.milliseconds(.max) == most && Duration.seconds(.min) == least && most * 2 == most && most * -2 == least)
        #expect(most + .seconds(1) == most && least - .seconds(1) == least && most - least == most)
        #expect(Instant(nanoseconds: 5) + most == Instant(nanoseconds: .max) && Instant(nanoseconds: -5) - Instant(nanoseconds: .max) == least)
        #expect(Instant(nanoseconds: 7) - Instant(nanoseconds: 3) == Duration(nanoseconds: 4) && Duration.seconds(3) * 2 == .milliseconds(6000))
    }
}
