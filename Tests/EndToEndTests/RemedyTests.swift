import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

/// What refusals tell people to do is done, and helps.
///
/// A case is a table's row: what causes the refusal, and what its remedy says. Steps run in a folder of their own:
/// `@NAME` is a fixture's model, `model NAME VARIANT` makes a small model or changes it, `sh …` is a line of shell, and
/// everything else is a command of otconvert. Steps before the cause and those of the cure must succeed.
@Suite struct RemedyTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let rule: String
    let remedy: String
    var before: [String] = []
    let cause: String
    let cure: [String]

    init(_ rule: String, _ remedy: String, before: [String] = [], _ cause: String, cure: String...) {
      (self.rule, self.remedy, self.before, self.cause, self.cure) = (rule, remedy, before, cause, cure)
    }

    var testDescription: String { "\(rule): \(remedy)" }
  }

  private static let quick = "--samples 2 --length 64"
  private static let plain = "--no-calibration"
  private static let text = "--text ^tasks/sentences.txt \(quick)"

  static let outputs: [Case] = [
    Case(
      "output-exists", "use --force", before: ["convert @opt a.otq \(plain)"], "convert @opt a.otq \(plain)",
      cure: "convert @opt a.otq \(plain) --force"),
    Case(
      "output-exists", "use --force", before: ["export @opt x --to safetensors \(plain)"],
      "export @opt x --to safetensors \(plain)", cure: "export @opt x --to safetensors \(plain) --force"),
    Case(
      "output-no-parent", "create the directory", "convert @opt no/a.otq \(plain)",
      cure: "sh mkdir no", "convert @opt no/a.otq \(plain)"),
    Case(
      "output-no-parent", "create the folder", "export @opt no/x --to safetensors \(plain)",
      cure: "sh mkdir no", "export @opt no/x --to safetensors \(plain)"),
    Case("output-not-regular", "the name of a file", "convert @opt - \(plain)", cure: "convert @opt a.otq \(plain)"),
    Case(
      "output-not-ours", "choose another output, or remove it", before: ["sh mkdir x && touch x/mine"],
      "export @opt x --to safetensors \(plain) --force", cure: "export @opt y --to safetensors \(plain)",
      "sh rm -r x", "export @opt x --to safetensors \(plain)"),
    Case(
      "output-is-input", "choose another output", before: ["model m plain"],
      "convert m m/model.safetensors \(plain) --force", cure: "convert m a.otq \(plain)"),
    Case(
      "output-twice", "choose another name for one",
      "eval @bert --ids @bert/goldens.safetensors --windows 1 --logits-out a --hidden-out a",
      cure: "eval @bert --ids @bert/goldens.safetensors --windows 1 --logits-out a --hidden-out b"),
  ]

  static let families: [Case] =
    [
      "unknown-type", "recurrent-type", "unknown-activation", "other-member", "other-architecture", "own-code",
      "more-layers", "makers",
    ]
    .map { variant in
      Case(
        ruleOfVariant[variant] ?? "", "--weights-only packs", before: ["model m \(variant)"],
        "convert m a.otq \(plain)",
        cure: "convert m a.otq --weights-only", "verify a.otq --reference m")
    } + [
      Case(
        "family-code", "remove 'auto_map' from config.json", before: ["model m own-code"], "convert m a.otq \(plain)",
        cure: "model m plain", "convert m a.otq \(plain)"),
      Case(
        "family-architecture", "add \"architectures\": [\"BertModel\"]", before: ["model m unnamed"],
        "convert m a.otq \(plain)", cure: "model m named", "convert m a.otq \(plain)"),
      Case(
        "family-differs", "leave out --family", "convert @opt a.otq \(plain) --family llama",
        cure: "convert @opt a.otq \(plain)"),
      Case(
        "family-quantized", "remove 'quantization_config'", before: ["model m said-to-be-quantized"],
        "convert m a.otq \(plain)", cure: "model m plain", "convert m a.otq \(plain)"),
      Case(
        "run-incomplete", "put the model's config.json beside the checkpoint (and convert it again)",
        before: ["model m no-configuration", "convert m a.otq \(plain)"], "run a.otq --prompt In --max-tokens 1",
        cure: "model m plain", "convert m a.otq \(plain) --force", "run a.otq --prompt In --max-tokens 1"),
      Case(
        "tokenizer-missing", "put the model's tokenizer.json beside the checkpoint (and convert it again)",
        before: ["model m no-tokenizer", "convert m a.otq \(plain)"], "tokenize a.otq --text In",
        cure: "model m plain", "convert m a.otq \(plain) --force", "tokenize a.otq --text In"),
      Case(
        "calibration-impossible", "put the model's tokenizer.json beside", before: ["model m no-tokenizer"],
        "convert m a.otq \(quick)", cure: "model m plain", "convert m a.otq \(quick)"),
      Case(
        "json-is-gzip", "decompress it with gunzip",
        before: ["model m plain", "sh gzip m/config.json", "sh mv m/config.json.gz m/config.json"],
        "convert m a.otq \(plain)", cure: "sh mv m/config.json m/config.json.gz && gunzip m/config.json.gz",
        "convert m a.otq \(plain)"),
    ]

  private static let ruleOfVariant = [
    "unknown-type": "family-unknown", "recurrent-type": "family-recurrent",
    "unknown-activation": "family-configuration", "other-member": "family-member",
    "other-architecture": "family-architecture", "own-code": "family-code", "more-layers": "family-tensors",
    "makers": "family-layout",
  ]

  static let choices: [Case] = [
    Case(
      "budget-small", "raise --budget", "convert @llama a.otq \(plain) --budget 1bpw",
      cure: "convert @llama a.otq \(plain) --budget 5bpw"),
    Case(
      "budget-small", "--embedding-bits 8 is smaller",
      "convert @llama a.otq \(plain) --embedding-bits 16 --budget 1.2MB",
      cure: "convert @llama a.otq \(plain) --embedding-bits 8 --budget 1.2MB"),
    Case(
      "budget-no-graph", "leave out --budget and choose --bits", before: ["model m unknown-type"],
      "convert m a.otq --weights-only --budget 5bpw", cure: "convert m a.otq --weights-only --bits 5"),
    Case(
      "recipe-no-graph", "leave out --save-recipe", before: ["model m unknown-type"],
      "convert m a.otq --weights-only --save-recipe r", cure: "convert m a.otq --weights-only --force"),
    Case(
      "pattern-no-match", "leave out 're:'", "convert @opt a.otq \(plain) --exclude re:q_proj",
      cure: "convert @opt a.otq \(plain) --exclude q_proj"),
    Case(
      "pattern-no-match", "a regular expression of such names", "convert @opt a.otq \(plain) --bits-for nosuch=4",
      cure: "convert @opt a.otq \(plain) --bits-for q_proj=4"),
    Case(
      "rounding-samples", "take --rounding nearest", "convert @opt a.otq \(plain) --rounding gptq",
      cure: "convert @opt a.otq \(plain) --rounding nearest"),
    Case(
      "rounding-samples", "let the model be calibrated", "convert @opt a.otq \(plain) --rounding gptq",
      cure: "convert @opt a.otq --rounding gptq --method smoothquant \(quick)"),
    Case(
      "statistics-rotated", "leave the statistics out", before: ["calibrate @llama -o s \(text)"],
      "convert @llama a.otq --statistics s --method quarot", cure: "convert @llama a.otq --method quarot \(quick)"),
    Case(
      "method-activations", "leave out --activations, or take --method",
      "convert @llama a.otq --method outliertune --activations group:32 --group-size 32 \(quick)",
      cure: "convert @llama a.otq --method outliertune --group-size 32 \(quick)",
      "convert @llama b.otq --method smoothquant --activations group:32 --group-size 32 \(quick)"),
    Case(
      "statistics-missing", "name the method that rotates last",
      "convert @opt a.otq --method hadamard --method smoothquant \(quick)",
      cure: "convert @opt a.otq --method smoothquant --method hadamard \(quick)"),
    Case(
      "calibration-memory", "as much with --max-memory, choose a smaller --length, or --effort fast",
      "convert @llama a.otq --max-memory 4M --samples 4 --length 64",
      cure: "convert @llama a.otq --max-memory 5M --samples 4 --length 64",
      "convert @llama b.otq --max-memory 4M --samples 8 --length 16",
      "convert @llama c.otq --max-memory 4M --effort fast"),
    Case(
      "method-option", "--method peg,groups=N", "convert @llama a.otq --method peg,groups=7 \(quick)",
      cure: "convert @llama a.otq --method peg,groups=8 \(quick)"),
    Case(
      "recipe-format", "--statistics reads the files", before: ["calibrate @llama -o s \(text)"],
      "convert @llama a.otq --recipe s", cure: "convert @llama a.otq --statistics s"),
    Case(
      "statistics-format", "--act-scales reads the files", "convert @llama a.otq --statistics @llama/act_scales.pt",
      cure: "convert @llama a.otq --act-scales @llama/act_scales.pt"),
    Case(
      "recipe-other-model", "without --recipe", before: ["convert @llama b.otq \(plain) --save-recipe r"],
      "convert @opt a.otq --recipe r", cure: "convert @opt a.otq \(plain)"),
    Case(
      "statistics-other-model", "run 'otconvert calibrate' on this model", before: ["calibrate @llama -o s \(text)"],
      "convert @opt a.otq --statistics s", cure: "calibrate @opt -o t \(text)", "convert @opt a.otq --statistics t"),
    Case(
      "instruction-set-unknown", "use one of", "sh OTQ_ISA=fastest $OTCONVERT run @opt --prompt In --max-tokens 1",
      cure: "sh OTQ_ISA=scalar $OTCONVERT run @opt --prompt In --max-tokens 1"),
  ]

  static let exports: [Case] = [
    Case(
      "export-bias", "use --no-symmetrization", "export @llama x --to mlx \(quick)",
      cure: "export @llama x --to mlx --no-symmetrization \(quick)"),
    Case(
      "export-bias", "(outliertune,symmetrize=false)", "export @llama x --to mlx \(quick)",
      cure: "export @llama x --to mlx --method outliertune,symmetrize=false \(quick)"),
    Case(
      "export-bias", "exported --restored", before: ["convert @llama a.otq --method outliertune \(quick)"],
      "export a.otq x --to safetensors", cure: "export a.otq x --to safetensors --restored"),
    Case(
      "export-model-type", "--to safetensors or compressed-tensors", "export @opt x --to gguf \(plain)",
      cure: "export @opt x --to safetensors \(plain)", "export @opt y --to compressed-tensors \(plain)"),
    Case(
      "export-head", "--to safetensors", "export @bert-classifier x --to gguf \(plain)",
      cure: "export @bert-classifier x --to safetensors \(plain)"),
    Case(
      "export-architecture", "--to safetensors", "export @families/mixtral x --to compressed-tensors \(plain)",
      cure: "export @families/mixtral x --to safetensors \(plain)"),
    Case(
      "export-groups", "use --group-size 32, or leave it out", "export @llama x --to gguf --group-size 48 \(plain)",
      cure: "export @llama x --to gguf --group-size 32 \(plain)", "export @llama y --to gguf \(plain)"),
    Case(
      "export-groups", "leave out --group-size", "export @llama x --to ctranslate2 --group-size 32 \(plain)",
      cure: "export @llama x --to ctranslate2 \(plain)"),
    Case(
      "export-activation", "use --activations token",
      "export @opt x --to compressed-tensors --method per-token --activations group:32 --group-size 32",
      cure: "export @opt x --to compressed-tensors --method per-token --activations token --group-size 32"),
    Case(
      "export-asymmetric", "use --weight-scheme symmetric, or at most 7 bits",
      "export @llama x --to compressed-tensors --method per-token --weight-scheme asymmetric",
      cure: "export @llama x --to compressed-tensors --method per-token --weight-scheme symmetric",
      "export @llama y --to compressed-tensors --method per-token --weight-scheme asymmetric --bits 7"),
    Case(
      "export-per-tensor", "leave out --per-tensor", "export @llama x --to compressed-tensors --per-tensor \(plain)",
      cure: "export @llama x --to compressed-tensors \(plain)"),
    Case(
      "export-nothing", "--to safetensors, or exclude fewer", "export @llama x --to mlx --exclude . \(plain)",
      cure: "export @llama x --to safetensors --exclude . \(plain)",
      "export @llama y --to mlx --exclude q_proj \(plain)"),
    Case(
      "export-options", "leave out the options of a conversion, or export the checkpoint",
      before: ["convert @llama a.otq --method per-token"], "export a.otq x --to mlx --bits 4",
      cure: "export a.otq x --to mlx", "export @llama y --to mlx --bits 4 \(plain)"),
    Case(
      "export-rotation", "export it --restored, or use a method that does not rotate (--method smoothquant)",
      before: ["convert @llama a.otq --method hadamard"], "export a.otq x --to safetensors",
      cure: "export a.otq x --to safetensors --restored", "convert @llama b.otq --method smoothquant \(quick)",
      "export b.otq y --to safetensors"),
    Case(
      "export-rotation", "export the checkpoint", before: ["convert @llama a.otq --method quarot \(quick)"],
      "export a.otq x --to safetensors", cure: "export @llama x --to safetensors \(plain)"),
    Case(
      "export-split", "--method smoothquant", before: ["convert @llama a.otq --method llmint8 \(quick)"],
      "export a.otq x --to mlx", cure: "convert @llama b.otq --method smoothquant \(quick)", "export b.otq x --to mlx"),
    Case(
      "export-config", "put it beside the checkpoint", before: ["model m no-configuration"],
      "export m x --to safetensors --weights-only", cure: "model m plain", "export m x --to safetensors --weights-only"),
    Case(
      "export-tokenizer", "put tokenizer.json beside", before: ["model m no-tokenizer"],
      "export m x --to ctranslate2 \(plain)", cure: "model m plain", "export m x --to ctranslate2 \(plain)"),
  ]

  private static let evaluation = "eval @opt --windows 1 --context 8"
  private static let comparison =
    "--ids @opt/goldens.safetensors --windows 1 --methods per-token --settings w8a8"

  static let texts: [Case] = [
    Case(
      "text-field", "--text-field: content", before: [#"sh echo '{"content": "In the beginning was"}' > a.jsonl"#],
      "\(evaluation) --text a.jsonl", cure: "\(evaluation) --text a.jsonl --text-field content"),
    Case(
      "text-utf8", "'iconv -f LATIN1 -t UTF-8'", before: [#"sh printf 'In the beginning caf\351 was' > a.txt"#],
      "\(evaluation) --text a.txt", cure: "sh iconv -f LATIN1 -t UTF-8 a.txt > b.txt", "\(evaluation) --text b.txt"),
    Case(
      "text-is-utf-16", "'iconv -f UTF-16 -t UTF-8'",
      before: ["sh echo In the beginning was the word | iconv -t UTF-16 > a.txt"], "\(evaluation) --text a.txt",
      cure: "sh iconv -f UTF-16 -t UTF-8 a.txt > b.txt", "\(evaluation) --text b.txt"),
    Case(
      "text-context", "choose a smaller --context", before: ["sh echo In the beginning was the word of God > a.txt"],
      "eval @opt --text a.txt --context 1000", cure: "eval @opt --text a.txt --context 8"),
    Case(
      "ids-context", "leave out --context", "eval @opt --ids @opt/goldens.safetensors --windows 1 --context 4",
      cure: "eval @opt --ids @opt/goldens.safetensors --windows 1"),
    Case(
      "task-unknown", "use one of piqa", "eval @opt --task pica --data ^tasks/piqa.jsonl --limit 1",
      cure: "eval @opt --task piqa --data ^tasks/piqa.jsonl --limit 1"),
    Case(
      "task-data-layout", "give a .jsonl, .tsv or .csv file", "eval @opt --task piqa --data ^tasks/sentences.txt",
      cure: "eval @opt --task piqa --data ^tasks/piqa.jsonl --limit 1"),
    Case(
      "task-windows", "leave context and stride out",
      "eval @opt --task piqa --data ^tasks/piqa.jsonl --limit 1 --stride 4",
      cure: "eval @opt --task piqa --data ^tasks/piqa.jsonl --limit 1"),
    Case(
      "task-model", "BertForSequenceClassification", "eval @opt --task sst2 --data ^tasks/sst2.tsv --limit 1",
      cure: "eval @bert-classifier --task sst2 --data ^tasks/sst2.tsv --limit 1"),
    Case(
      "classify-no-classes", "BertForSequenceClassification", "classify @opt --text In",
      cure: "classify @bert-classifier --text In"),
    Case(
      "embed-causal", "put the model's modules.json beside it", before: ["model m plain"], "embed m --text In",
      cure: #"sh echo '[{"path":"","type":"a.Transformer"},{"path":"1_Pooling","type":"a.Pooling"}]' > m/modules.json"#,
      #"sh mkdir m/1_Pooling && echo '{"pooling_mode_lasttoken":true}' > m/1_Pooling/config.json"#, "embed m --text In"),
    Case(
      "answer-no-text", "with --pair the text that it is about", before: ["model m answers"], "classify m --text What?",
      cure: "classify m --text What? --pair That."),
    Case(
      "compare-folder", "choose another --output", before: ["sh touch x"],
      "compare @opt --output x \(comparison)", cure: "compare @opt --output y \(comparison)"),
  ]

  @Test(arguments: outputs) func ofOutputs(_ row: Case) throws { try Self.check(row) }
  @Test(arguments: families) func ofFamilies(_ row: Case) throws { try Self.check(row) }
  @Test(arguments: choices) func ofChoices(_ row: Case) throws { try Self.check(row) }
  @Test(arguments: exports) func ofExports(_ row: Case) throws { try Self.check(row) }
  @Test(arguments: texts) func ofTexts(_ row: Case) throws { try Self.check(row) }

  /// Texts in other wrappings than are read, by the program that the remedy names where there is one here.
  @Test(arguments: [("xz", "unxz"), ("bzip2", "bunzip2")]) func ofCompressions(_ program: String, _ remedy: String)
    throws
  {
    guard try Tool.shell("command -v \(program)").status == 0 else { return }
    let suffix = program == "xz" ? "xz" : "bz2"
    try Self.check(
      Case(
        "text-is-\(program)", "decompress it with \(remedy)",
        before: ["sh echo In the beginning was the word > a.txt && \(program) a.txt"],
        "\(Self.evaluation) --text a.txt.\(suffix)", cure: "sh \(remedy) a.txt.\(suffix)",
        "\(Self.evaluation) --text a.txt"))
  }

  private static func check(_ row: Case) throws {
    try withTemporaryFolder { folder in
      for step in row.before { try succeed(step, in: folder) }
      let outcome = try run(row.cause, in: folder)
      // A conversion that need not be calibrated says so in a warning.
      let isRefused = outcome.status == 1 || row.rule == "calibration-impossible"
      #expect(isRefused && outcome.errors.contains("[\(row.rule)]"), "\(row.cause): \(outcome.errors)")
      #expect(outcome.errors.contains(row.remedy), "\(row.cause): \(outcome.errors)")
      for step in row.cure {
        if row.rule == "calibration-impossible" { try? FileManager.default.removeItem(atPath: folder + "/a.otq") }
        try succeed(step, in: folder)
      }
    }
  }

  private static func succeed(_ step: String, in folder: String) throws {
    let outcome = try run(step, in: folder)
    #expect(outcome.status == 0, "\(step): \(outcome.errors)")
  }

  private static func run(_ step: String, in folder: String) throws -> Tool.Outcome {
    if step.hasPrefix("sh ") {
      return try Tool.shell("cd '\(folder)' && " + named(String(step.dropFirst(3))))
    }
    let words = step.split(separator: " ").map { named(String($0)) }
    if words[0] == "model" {
      try SmallModels.make(words[2], at: folder + "/" + words[1])
      return Tool.Outcome(status: 0, output: "", errors: "")
    }
    let process = Tool.process(words)
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    return try Tool.finish(process)
  }

  /// `@opt` is the fixture's model, `^tasks` a folder of fixtures.
  private static func named(_ text: String) -> String {
    let words = text.split(separator: " ", omittingEmptySubsequences: false).map { word -> String in
      if word.hasPrefix("^") { return Fixtures.path(String(word.dropFirst())) }
      guard word.hasPrefix("@") else { return String(word) }
      let parts = word.dropFirst().split(separator: "/", maxSplits: 1)
      if parts[0] == "families" { return Fixtures.path("models/" + word.dropFirst()) }
      return Fixtures.path("models/\(parts[0])-mini" + (parts.count > 1 ? "/\(parts[1])" : ""))
    }
    return words.joined(separator: " ")
  }
}
