import COniguruma
import OTFoundation
import OTPlatform

/// A regular expression in the syntax of Oniguruma, run by that library: it is the engine of
/// the reference, so every pattern that a tokenizer.json can hold has the reference's matches.
///
/// Pattern and text are untrusted. Nesting is bounded when the pattern is compiled, the stack of a
/// match when it runs. Time is bounded, too: the library counts steps back, not steps, so it is
/// asked for one place and few steps back at a time, and a clock is looked at in between. (The end of
/// its range of places is the end of the text to it, so it cannot search a part of a text.)
final class RegularExpression: @unchecked Sendable {
  /// Groups that may nest in a pattern.
  private static let deepestNesting: UInt32 = 64
  /// Longer patterns are refused; the longest of published tokenizers has 1,500 bytes.
  private static let longestPattern = 1 << 16
  /// Places to go back to that a match may remember, of some 50 bytes each.
  private static let deepestStack: UInt32 = 1 << 22
  /// Steps back that a match may take at first, and at most (the library's own limit).
  private static let (firstRetryLimit, lastRetryLimit): (UInt, UInt) = (1 << 10, 10_000_000)
  /// Time of the processor for a text, in seconds: many times what published patterns take.
  private static let (leastTime, timePerByte) = (1.0, 2e-6)

  private static let preparation = ot_onig_prepare(deepestNesting)

  /// The compiled pattern, which is not changed any more: threads may share it.
  private let compiled: OnigRegex
  private let pattern: String

  /// Compiles `pattern`.
  ///
  /// - Throws: `Refusal` `tokenizer-regex` for a pattern that is malformed or too deeply nested.
  init(_ pattern: String, in section: TokenizerSection) throws(Refusal) {
    func refusal(_ why: String) -> Refusal {
      section.refusal("tokenizer-regex", "the pattern '\(pattern.prefix(200))' is refused: \(why)")
    }
    guard Self.preparation == ONIG_NORMAL else { throw refusal("the library for patterns does not start") }
    var bytes = Array(pattern.utf8)
    guard bytes.count <= Self.longestPattern else { throw refusal("more than \(Self.longestPattern) bytes") }
    // It would be true at every place, not only at the first of a search.
    guard !pattern.contains("\\G") else { throw refusal("\\G is not supported") }
    // An empty array has no address.
    bytes.append(0)
    var regex: OnigRegex?
    var message = [UInt8](repeating: 0, count: Int(ONIG_MAX_ERROR_MESSAGE_LEN))
    let status = ot_onig_compile(&regex, bytes, bytes.count - 1, &message)
    guard status == ONIG_NORMAL, let regex else {
      throw refusal(String(decoding: message.prefix { $0 != 0 }, as: UTF8.self))
    }
    compiled = regex
    self.pattern = pattern
  }

  /// Compiles a pattern that is part of this package.
  convenience init(builtIn pattern: String) {
    do {
      try self.init(pattern, in: TokenizerSection(json: .null, path: "", file: ""))
    } catch {
      preconditionFailure("a pattern of this package does not compile: \(error)")
    }
  }

  deinit { onig_free(compiled) }

  /// The matches in `text`, leftmost first. An empty one counts, unless it is where the one
  /// before ends, as in the reference; an empty text has none.
  ///
  /// - Throws: `Refusal` `tokenizer-regex-limit` for a pattern that tries too many ways or takes too long.
  func matches(in text: [Unicode.Scalar]) throws(Refusal) -> [Range<Int>] {
    if text.isEmpty { return [] }
    guard let search = Search(compiled, text) else { throw limit("memory is short") }
    var matches: [Range<Int>] = []
    var (position, end) = (0, -1)
    // Where a byte offset is, in scalars: offsets only rise.
    var (byte, scalar) = (0, 0)
    func scalars(before offset: Int) -> Int {
      while byte < offset {
        if search.bytes[byte] & 0xC0 != 0x80 { scalar += 1 }
        byte += 1
      }
      return scalar
    }
    while position <= search.bytes.count, let match = try next(search, from: position) {
      guard !match.isEmpty || match.upperBound != end else {
        position = search.boundary(from: position + 1)
        continue
      }
      let start = scalars(before: match.lowerBound)
      matches.append(start..<scalars(before: match.upperBound))
      (position, end) = (match.upperBound, match.upperBound)
      if matches.count & 0xFF == 0, search.isLate { throw limit("it takes too long") }
    }
    return matches
  }

  /// The first match from `position` on.
  private func next(_ search: Search, from position: Int) throws(Refusal) -> Range<Int>? {
    var start = position
    var retryLimit = Self.firstRetryLimit
    var tryCount = 0
    while true {
      let status = search.run(at: start, retryLimit: retryLimit)
      switch status {
      case 0...:
        guard let match = search.match else { throw limit("the library gives no place") }
        return match
      case ONIG_MISMATCH:
        guard start < search.bytes.count else { return nil }
        start = search.boundary(from: start + 1)
        tryCount += 1
        if tryCount & 0x3F != 0 { continue }
      case ONIGERR_RETRY_LIMIT_IN_MATCH_OVER where retryLimit < Self.lastRetryLimit:
        retryLimit = min(retryLimit * 4, Self.lastRetryLimit)
      case ONIGERR_RETRY_LIMIT_IN_MATCH_OVER: throw limit("it tries too many ways")
      case ONIGERR_MATCH_STACK_LIMIT_OVER: throw limit("a match is too long")
      default: throw limit("error \(status)")
      }
      if search.isLate { throw limit("it takes too long") }
    }
  }

  private func limit(_ why: String) -> Refusal {
    Refusal("tokenizer-regex-limit", "the pattern '\(pattern.prefix(200))' was stopped: \(why)")
  }

  /// A text that is being searched, in UTF-8.
  private final class Search {
    let bytes: [UInt8]
    private let compiled: OnigRegex
    /// The processor's time until which a text may take; nil before the first look at the clock.
    private var deadline: Double?
    private let region: UnsafeMutablePointer<OnigRegion>
    private let limits: OpaquePointer

    init?(_ compiled: OnigRegex, _ text: [Unicode.Scalar]) {
      guard let region = onig_region_new() else { return nil }
      guard let limits = onig_new_match_param() else {
        onig_region_free(region, 1)
        return nil
      }
      onig_initialize_match_param(limits)
      onig_set_match_stack_limit_size_of_match_param(limits, RegularExpression.deepestStack)
      self.compiled = compiled
      self.region = region
      self.limits = limits
      var bytes: [UInt8] = []
      bytes.reserveCapacity(text.count + text.count / 8)
      for scalar in text {
        if scalar.isASCII {
          bytes.append(UInt8(scalar.value))
        } else {
          bytes.append(contentsOf: scalar.inOldUnicode.utf8)
        }
      }
      self.bytes = bytes
    }

    deinit {
      onig_region_free(region, 1)
      onig_free_match_param(limits)
    }

    /// True once the text has taken too much of the processor's time.
    var isLate: Bool {
      var time = timespec()
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
      let now = Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
      if let deadline { return now > deadline }
      deadline = now + RegularExpression.leastTime + RegularExpression.timePerByte * Double(bytes.count)
      return false
    }

    /// The first place from `position` on at which a character begins, or the end.
    func boundary(from position: Int) -> Int {
      var position = position
      while position < bytes.count, bytes[position] & 0xC0 == 0x80 { position += 1 }
      return position
    }

    /// Looks for a match that begins at a place; its length, or an error.
    func run(at place: Int, retryLimit: UInt) -> Int32 {
      onig_set_retry_limit_in_match_of_match_param(limits, retryLimit)
      return bytes.withUnsafeBufferPointer { bytes in
        guard let start = bytes.baseAddress else { return ONIG_MISMATCH }
        return onig_match_with_param(
          compiled, start, start + bytes.count, start + place, region, OnigOptionType(ONIG_OPTION_NONE), limits)
      }
    }

    /// The match of the last run.
    var match: Range<Int>? {
      guard region.pointee.num_regs > 0, let begins = region.pointee.beg, let ends = region.pointee.end
      else { return nil }
      let (start, end) = (Int(begins[0]), Int(ends[0]))
      return 0 <= start && start <= end && end <= bytes.count ? start..<end : nil
    }
  }
}
