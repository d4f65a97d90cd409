import Foundation
import OTFoundation
import OTJSON
import OTQ
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite struct GenerationTests {
  private static let prompt = "And God said, Let there be"

  private func pieces(_ text: TextGeneration) async throws -> [GeneratedPiece] {
    var pieces: [GeneratedPiece] = []
    for try await piece in text { pieces.append(piece) }
    return pieces
  }

  /// Token by token with a cache of keys and values, against whole sequences.
  @Test(arguments: Fixture.decoders, [true, false])
  func greedyIsTheArgmaxOfWholeSequences(fixture: Fixture, isPacked: Bool) async throws {
    let model = try isPacked ? fixture.packedModel() : fixture.model()
    var tokens = try model.encode(Self.prompt)
    let promptCount = tokens.count
    let options = GenerationOptions(maximumTokenCount: 16)
    let generated = try await pieces(model.generate(Self.prompt, options: options)).flatMap(\.tokenIDs)
    for (index, token) in generated.enumerated() {
      let logits = try model.logits(for: tokens)
      #expect(logits.rowCount == tokens.count && logits.channelCount == 2048)
      let last = logits[tokens.count - 1]
      let best = try #require(last.indices.max { (last[$0], $1) < (last[$1], $0) })
      #expect(token == best - last.startIndex, "token \(index)")
      tokens.append(token)
    }
    #expect(tokens.count == promptCount + 16)
  }

  @Test(arguments: [Fixture.opt, .llama]) func piecesJoinToTheWholeText(fixture: Fixture) async throws {
    let model = try fixture.packedModel(bits: 6)
    let prompt = try model.encode(Self.prompt)
    for seed in UInt64(1)...3 {
      let options = GenerationOptions(maximumTokenCount: 60, temperature: 1, topP: 0.95, seed: seed)
      let pieces = try await pieces(model.generate(Self.prompt, options: options))
      let tokens = pieces.flatMap(\.tokenIDs)
      let text = pieces.map(\.text).joined()
      #expect(try model.decode(prompt + tokens) == Self.prompt + text, "seed \(seed)")
      // Only the last has a summary.
      #expect(pieces.dropLast().allSatisfy { $0.summary == nil && $0.tokenIDs.count == 1 })
      let summary = try #require(pieces.last?.summary)
      #expect(summary.promptTokenCount == prompt.count && summary.tokenCount == tokens.count)
      #expect(summary.stopReason == .tokenCount || summary.stopReason == .endOfText)
    }
  }

  @Test func sameSeedSameText() async throws {
    func text(_ seed: UInt64, threadCount: Int = 2) async throws -> String {
      let model = try Fixture.llama.packedModel(threadCount: threadCount)
      let options = GenerationOptions(maximumTokenCount: 40, temperature: 0.9, topK: 100, seed: seed)
      return try await model.generate(Self.prompt, options: options).text()
    }
    let first = try await text(1)
    #expect(try await text(1) == first)
    #expect(try await text(1, threadCount: 1) == first)
    #expect(try await text(2) != first)
  }

  @Test func eachIterationStartsAnew() async throws {
    let text = try Fixture.llama.model().generate(Self.prompt, options: .init(maximumTokenCount: 5))
    let first = try await text.text()
    #expect(try await text.text() == first)
  }

  // MARK: Ends

  @Test func stopStrings() async throws {
    let model = try Fixture.llama.model()
    let options = GenerationOptions(maximumTokenCount: 40)
    let whole = try await model.generate(Self.prompt, options: options).text()
    // From the middle of the text, across tokens.
    let start = whole.index(whole.startIndex, offsetBy: 20)
    let stop = String(whole[start..<whole.index(start, offsetBy: 9)])
    var stopped = options
    stopped.stopStrings = ["never said", stop]
    let pieces = try await pieces(model.generate(Self.prompt, options: stopped))
    let text = pieces.map(\.text).joined()
    let end = try #require(whole.range(of: stop)).lowerBound
    #expect(text == whole[..<end])
    #expect(pieces.last?.summary?.stopReason == .stopString)
  }

  @Test func endOfTheContext() async throws {
    let model = try Fixture.opt.model()
    let prompt = (0..<250).map { 100 + $0 }
    let options = GenerationOptions(maximumTokenCount: 1000)
    let pieces = try await pieces(model.generate(tokenIDs: prompt, options: options))
    // The last is chosen by all 256 that the model can read.
    #expect(pieces.flatMap(\.tokenIDs).count == 7)
    #expect(pieces.last?.summary?.stopReason == .contextLength)
    #expect(try refusedRule { _ = try model.generate(tokenIDs: prompt + prompt) } == "run-context")
  }

  @Test func refusalsOfRunningNameTheModel() throws {
    let model = try Fixture.opt.model()
    let refusal = #expect(throws: Refusal.self) { try model.logits(for: [-1]) }
    #expect(refusal?.rule == "run-token-id" && refusal?.file == Fixture.opt.folder)
    try Fixture.opt.withCopy(["config.json": nil]) { folder in
      let refusal = #expect(throws: Refusal.self) { try LanguageModel(path: folder) }
      #expect(refusal?.rule == "run-incomplete" && refusal?.file == folder)
    }
  }

  @Test func noTokensWanted() async throws {
    let model = try Fixture.opt.model()
    let pieces = try await pieces(model.generate(Self.prompt, options: .init(maximumTokenCount: 0)))
    #expect(pieces.map(\.text) == [""] && pieces.first?.summary?.stopReason == .tokenCount)
  }

  /// The places for the ID of the token that ends a text.
  enum EndSource: CaseIterable {
    case generationConfiguration, listInConfiguration, tokenizer, specialToken
  }

  @Test(arguments: EndSource.allCases, [true, false])
  func endOfText(source: EndSource, isPacked: Bool) async throws {
    let plain = try Fixture.llama.model()
    let tokens = try await pieces(plain.generate(Self.prompt, options: .init(maximumTokenCount: 12)))
      .flatMap(\.tokenIDs)
    // One that has not come before, so that it is the first that ends the text.
    let position = try #require(tokens.indices.last { !tokens[..<$0].contains(tokens[$0]) })
    let end = tokens[position]
    let configuration = try String(contentsOfFile: Fixture.llama.path("config.json"), encoding: .utf8)
    let withoutEnd = configuration.replacingOccurrences(of: "\"eos_token_id\": 2", with: "\"unused\": 2")
    #expect(withoutEnd != configuration)
    let tokenizer = try JSONValue.parse(
      contentsOf: MappedFile(path: Fixture.llama.path("tokenizer.json")))
    let vocabulary = try #require(tokenizer["model"]?["vocab"]?.object)
    let spelling = JSONValue.string(try #require(vocabulary.members.first { $0.value == .integer(end) }?.key))
    let files: [String: String] =
      switch source {
      case .generationConfiguration: ["generation_config.json": "{\"eos_token_id\": \(end)}"]
      case .listInConfiguration:
        [
          "config.json": configuration.replacingOccurrences(
            of: "_id\": 2,\n \"pre", with: "_id\": [5, \(end)],\n \"pre")
        ]
      case .tokenizer:
        ["config.json": withoutEnd, "tokenizer_config.json": "{\"eos_token\": \(spelling.text())}"]
      case .specialToken:
        ["config.json": withoutEnd, "tokenizer_config.json": "{\"eos_token\": {\"content\": \(spelling.text())}}"]
      }
    let model = try Fixture.llama.withCopy(files) { folder in
      try isPacked ? packModel(at: folder, bits: 8) : LanguageModel(path: folder, threadCount: 2)
    }
    let pieces = try await pieces(model.generate(Self.prompt, options: .init(maximumTokenCount: 12)))
    // The packed model may choose others; where it goes the same way, it ends the same way.
    let generated = pieces.flatMap(\.tokenIDs)
    if isPacked && !generated.starts(with: tokens[...position]) { return }
    #expect(generated == Array(tokens[...position]))
    #expect(pieces.last?.summary?.stopReason == .endOfText)
    let text = try plain.decode(Array(tokens[..<position]))
    #expect(pieces.map(\.text).joined() == text)
  }

  @Test func cancellation() async throws {
    let model = try Fixture.bloom.model()
    let text = try model.generate(Self.prompt, options: .init(maximumTokenCount: 5000, temperature: 1.5))
    let task = Task { () -> [GeneratedPiece] in
      var pieces: [GeneratedPiece] = []
      for try await piece in text {
        pieces.append(piece)
        if pieces.count == 3 { withUnsafeCurrentTask { $0?.cancel() } }
      }
      return pieces
    }
    let pieces = try await task.value
    #expect(pieces.count == 4)
    #expect(pieces.last?.summary?.stopReason == .cancelled)
  }

  /// A token that any of the model's files names ends a text, and so does a special token that --stop spells.
  @Test(arguments: [
    ("generation_config.json", "{\"eos_token_id\": [%, 2047]}"), ("config.json", nil),
    ("tokenizer_config.json", "{\"eos_token\": \"$\"}"),
  ])
  func everySourceOfEndTokensCounts(file: String, content: String?) async throws {
    let model = try Fixture.llama.model()
    // The fourth token that comes, named by one file and not by the others.
    let options = GenerationOptions(maximumTokenCount: 6)
    let tokens = try await pieces(model.generate(Self.prompt, options: options)).flatMap(\.tokenIDs)
    let end = tokens[3]
    try #require(!tokens[..<3].contains(end))
    let tokenizer = try JSONValue.parse(contentsOf: MappedFile(path: Fixture.llama.path("tokenizer.json")))
    let vocabulary = try #require(tokenizer["model"]?["vocab"]?.object?.members)
    let spelling = try #require(vocabulary.first { $0.1.integer == end }?.0)
    var files = [
      "generation_config.json": "{\"eos_token_id\": 2046}", "tokenizer_config.json": "{\"eos_token\": \"</s>\"}",
    ]
    if let content {
      let text = JSONValue.string(spelling).text().dropFirst().dropLast()
      files[file] = content.replacingOccurrences(of: "%", with: "\(end)").replacingOccurrences(of: "$", with: text)
    } else {
      var members = try #require(Fixture.llama.configuration().object)
      members["eos_token_id"] = .integer(end)
      files[file] = JSONValue.object(members).text()
    }
    let ended = try Fixture.llama.withCopy(files) { try LanguageModel(path: $0, threadCount: 2) }
    let last = try await pieces(ended.generate(Self.prompt, options: options)).last?.summary
    #expect(last?.stopReason == .endOfText && last?.tokenCount == 4)
  }

  // MARK: Several at once

  private static let prompts = [
    prompt, "And", "The words of the wise are as goads, and as nails", "In the beginning God created the heaven",
    "a", "Now the sons of Reuben the firstborn of Israel",
  ]

  /// Whatever the others and their number, each text is the one that it is alone.
  @Test(arguments: Fixture.decoders, [1, 3, 8]) func severalAreEachAlone(fixture: Fixture, count: Int) async throws {
    let model = try fixture.packedModel(bits: 6)
    for options in [
      GenerationOptions(maximumTokenCount: 12, stopStrings: ["the"]),
      GenerationOptions(maximumTokenCount: 9, temperature: 1, topP: 0.9, seed: 3),
    ] {
      var alone: [GeneratedPiece.Summary?] = []
      var texts: [String] = []
      for prompt in Self.prompts {
        let pieces = try await pieces(model.generate(prompt, options: options))
        texts.append(pieces.map(\.text).joined())
        alone.append(pieces.last?.summary)
      }
      let batch = try model.generate(Self.prompts, options: options, sequenceCount: count)
      #expect(try await batch.texts() == texts)
      var summaries = [GeneratedPiece.Summary?](repeating: nil, count: texts.count)
      for try await element in batch {
        #expect(summaries[element.index] == nil, "nothing comes after the last piece")
        summaries[element.index] = element.piece.summary
      }
      for (one, other) in zip(alone, summaries) {
        #expect(one?.stopReason == other?.stopReason && one?.tokenCount == other?.tokenCount)
        #expect(one?.promptTokenCount == other?.promptTokenCount)
      }
    }
  }

  @Test func severalAreCancelledTogether() async throws {
    let model = try Fixture.bloom.model()
    let batch = try model.generate(Self.prompts, options: .init(maximumTokenCount: 5000, temperature: 1.5))
    let task = Task { () -> [BatchGeneration.Element] in
      var elements: [BatchGeneration.Element] = []
      for try await element in batch {
        elements.append(element)
        if elements.count == 9 { withUnsafeCurrentTask { $0?.cancel() } }
      }
      return elements
    }
    let ends = try await task.value.filter { $0.piece.summary != nil }
    #expect(ends.map(\.index).sorted() == Array(0..<6))
    #expect(ends.allSatisfy { $0.piece.summary?.stopReason == .cancelled })
    let none: [String] = []
    #expect(try await model.generate(none).texts().isEmpty)
  }

  @Test func severalAreRefusedByNumber() throws {
    let model = try Fixture.opt.model()
    let refusal = #expect(throws: Refusal.self) { try model.generate(["a", ""]) }
    #expect(refusal?.rule == "generate-empty-prompt" && refusal?.message.contains("prompt 2") == true)
    let other = #expect(throws: Refusal.self) { try model.generate(tokenIDs: [[1], [2], [2048]]) }
    #expect(other?.rule == "run-token-id" && other?.message.contains("prompt 3") == true)
  }

  /// Swift 6.3 cannot compile a search for it in an async function.
  private static func spelling(of id: Int, in vocabulary: JSONObject) throws -> String {
    let names = vocabulary.members.filter { $0.value.integer == id }.map(\.key)
    return try #require(names.first)
  }

  @Test func aSpelledSpecialTokenStops() async throws {
    let options = GenerationOptions(maximumTokenCount: 6)
    let tokens = try await pieces(Fixture.llama.model().generate(Self.prompt, options: options)).flatMap(\.tokenIDs)
    try #require(!tokens[..<3].contains(tokens[3]))
    var root = try #require(
      JSONValue.parse(contentsOf: MappedFile(path: Fixture.llama.path("tokenizer.json"))).object)
    let spelling = try Self.spelling(of: tokens[3], in: #require(root["model"]?["vocab"]?.object))
    let added = JSONValue.object([
      "id": .integer(tokens[3]), "content": .string(spelling), "single_word": .bool(false), "lstrip": .bool(false),
      "rstrip": .bool(false), "normalized": .bool(false), "special": .bool(true),
    ])
    root["added_tokens"] = .array((root["added_tokens"]?.array ?? []) + [added])
    let model = try Fixture.llama.withCopy(["tokenizer.json": JSONValue.object(root).text()]) {
      try LanguageModel(path: $0, threadCount: 2)
    }
    let prompt = try Fixture.llama.model().encode(Self.prompt)
    var stopped = options
    stopped.stopStrings = [spelling]
    let last = try await pieces(model.generate(tokenIDs: prompt, options: stopped)).last?.summary
    #expect(last?.stopReason == .stopString && last?.tokenCount == 4)
  }

  /// A prompt may spell out what the tokenizer puts before it.
  @Test func thereIsOneBeginningOfText() throws {
    var root = try #require(
      JSONValue.parse(contentsOf: MappedFile(path: Fixture.llama.path("tokenizer.json"))).object)
    let template = """
      {"type": "TemplateProcessing", "pair": [], "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
       {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}
      """
    root["post_processor"] = try JSONValue.parse(template)
    let model = try Fixture.llama.withCopy(["tokenizer.json": JSONValue.object(root).text()]) {
      try LanguageModel(path: $0)
    }
    let plain = try model.promptTokenIDs("And")
    #expect(plain.first == 0 && plain.count(where: { $0 == 0 }) == 1)
    #expect(try model.promptTokenIDs("<s>And") == plain)
    // Two that were written are not one.
    #expect(try model.promptTokenIDs("<s><s>And") == [0] + plain)
  }

  // MARK: Refusals

  @Test func refusals() throws {
    let model = try Fixture.opt.model()
    #expect(try refusedRule { _ = try model.generate("") } == "generate-empty-prompt")
    #expect(try refusedRule { _ = try model.generate(tokenIDs: []) } == "generate-empty-prompt")
    #expect(try refusedRule { _ = try model.generate(tokenIDs: [2048]) } == "run-token-id")
    #expect(try refusedRule { _ = try model.generate(tokenIDs: [-1]) } == "run-token-id")
    let options = GenerationOptions(temperature: -1)
    #expect(try refusedRule { _ = try model.generate("a", options: options) } == "sampling-temperature")
    let bert = try Fixture.bert.model()
    #expect(!bert.isCausal && model.isCausal)
    #expect(try refusedRule { _ = try bert.generate("a") } == "run-not-causal")
    #expect(try refusedRule { _ = try model.logits(for: []) } == "run-empty")
    let mute = try Fixture.opt.withCopy(["tokenizer.json": nil]) { try LanguageModel(path: $0) }
    #expect(try refusedRule { _ = try mute.generate("a") } == "tokenizer-missing")
    #expect(try refusedRule { _ = try mute.encode("a") } == "tokenizer-missing")
    #expect(try mute.logits(for: [5]).rowCount == 1)
  }
}

@Suite struct StopStringsTests {
  /// Against looking for them in the whole text, cut into parts at random.
  @Test func agreesWithSearchingTheWhole() {
    var random = SeededGenerator()
    for _ in 0..<2000 {
      let alphabet: [Character] = ["a", "b", "é"]
      func word(_ length: Int) -> String {
        String((0..<length).map { _ in alphabet[Int.random(in: 0..<3, using: &random)] })
      }
      let text = word(Int.random(in: 0...12, using: &random))
      let stops = (0..<Int.random(in: 0...3, using: &random)).map { _ in
        word(Int.random(in: 1...3, using: &random))
      }
      let first = stops.compactMap { text.range(of: $0, options: .literal)?.lowerBound }.min()
      var finder = StopStrings(stops)
      var got = ""
      var isFound = false
      for character in text where !isFound {
        let part = finder.append(String(character))
        got += part.text
        isFound = part.isFound
        // What is out can be taken back by nothing.
        #expect(text[..<(first ?? text.endIndex)].hasPrefix(got))
      }
      if !isFound {
        let rest = finder.finish()
        got += rest.text
        isFound = rest.isFound
      }
      let expected = String(text[..<(first ?? text.endIndex)])
      #expect(got == expected && isFound == (first != nil), "\(text) \(stops), seed \(random.seed)")
    }
  }
}
