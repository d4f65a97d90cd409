import OTVerify
import Testing

/// The cosine of two vectors, by hand.
@Suite struct CosineTests {
  @Test func cosines() {
    #expect(abs(cosine([3, 4] as [Float], [4, 3] as [Float]) - 24.0 / 25) < 1e-12)
    #expect(abs(cosine([1, 0] as [Float], [-2, 0] as [Float]) + 1) < 1e-12)
    #expect(cosine([0, 0] as [Float], [1, 2] as [Float]) == 0)
    // A network that gives zeros as its source does is no worse than it.
    #expect(cosine([0, 0] as [Float], [0, 0] as [Float]) == 1)
  }
}
