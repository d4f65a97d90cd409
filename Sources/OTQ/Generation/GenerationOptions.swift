/// The options of continuing a text.
public struct GenerationOptions: Sendable, Hashable {
  /// The most tokens to generate; 0 or less: none.
  public var maximumTokenCount: Int
  /// 0: always the likeliest token, of equals the one with the lowest ID. Above
  /// 0: logits are divided by it, and tokens drawn by their probability.
  public var temperature: Double
  /// Draw only from the k likeliest tokens, at least 1; nil: from all.
  public var topK: Int?
  /// Draw only from the fewest tokens that have this share of the probability,
  /// above 0 and at most 1; nil: from all.
  public var topP: Double?
  /// Same model, prompt, options and seed give the same text.
  public var seed: UInt64
  /// The text ends before the first of these.
  public var stopStrings: [String]

  /// Options; greedy unless a temperature is given.
  public init(
    maximumTokenCount: Int = 128, temperature: Double = 0, topK: Int? = nil, topP: Double? = nil,
    seed: UInt64 = 0, stopStrings: [String] = []
  ) {
    self.maximumTokenCount = maximumTokenCount
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.seed = seed
    self.stopStrings = stopStrings
  }
}

/// A part of a generated text.
public struct GeneratedPiece: Sendable, Hashable {
  /// Why a text ended.
  public enum StopReason: String, Sendable, Hashable {
    /// The model gave a token that ends texts.
    case endOfText
    /// There are as many tokens as were wanted.
    case tokenCount
    /// The model can read no more tokens.
    case contextLength
    /// One of the stop strings came.
    case stopString
    /// The task that iterates was cancelled, or the command interrupted.
    case cancelled
  }

  /// Counts and seconds of a text.
  public struct Summary: Sendable, Hashable {
    /// Why the text ended.
    public let stopReason: StopReason
    /// Tokens of the prompt, special ones included.
    public let promptTokenCount: Int
    /// Tokens generated, one that ends the text included.
    public let tokenCount: Int
    /// Time in seconds to read the prompt and choose the first token.
    public let promptSeconds: Double
    /// Time in seconds for the tokens after the first, work of the caller left out.
    public let seconds: Double

    /// Tokens of the prompt in a second.
    public var promptTokensPerSecond: Double { Double(promptTokenCount) / max(promptSeconds, 1e-9) }
    /// Tokens generated after the first, in a second; 0 when there were none.
    public var tokensPerSecond: Double { Double(max(tokenCount - 1, 0)) / max(seconds, 1e-9) }
  }

  /// Whole characters, the next of the text. May be empty: in the last piece,
  /// and where tokens are only parts of a character or perhaps of a stop string.
  public let text: String
  /// The tokens chosen since the piece before, one that ends the text included.
  public let tokenIDs: [Int]
  /// In the last piece what the text took, nil in all others.
  public let summary: Summary?
}
