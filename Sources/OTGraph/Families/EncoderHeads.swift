import OTFoundation
import OTJSON

/// The heads that give something else than tokens' logits.
enum EncoderTask: String, CaseIterable {
  /// One row of scores for each sequence, a score for each label.
  case sequenceClassification = "ForSequenceClassification"
  /// One row for each token.
  case tokenClassification = "ForTokenClassification"
  /// Two scores for each token: that an answer begins there, and that it ends there.
  case questionAnswering = "ForQuestionAnswering"

  /// The linear that gives the scores, where a family calls it nothing else.
  var linear: String { self == .questionAnswering ? "qa_outputs" : "classifier" }

  /// The output of the graph.
  var output: String {
    switch self {
    case .sequenceClassification: "class_logits"
    case .tokenClassification: "token_class_logits"
    case .questionAnswering: "span_logits"
    }
  }
}

extension Configuration {
  /// The task that the only architecture names; nil for others, and where none is named.
  var task: EncoderTask? {
    EncoderTask.allCases.first { architectureEnds(in: $0.rawValue) }
  }

  /// True when the name of the first architecture ends so.
  func architectureEnds(in ending: String) -> Bool {
    value("architectures")?.array?.first?.string?.hasSuffix(ending) ?? false
  }

  /// The token for padding, behind whose row positions begin.
  ///
  /// - Throws: `Refusal` (`family-configuration`) where there is none.
  func paddingToken(usual: Int) throws -> Int {
    guard contains("pad_token_id") else { return usual }
    guard let token = value("pad_token_id")?.integer, (0..<GraphValidation.maximumSize).contains(token) else {
      throw refusal("'pad_token_id' is not a token, behind which positions begin")
    }
    return token
  }

  /// Refuses encoders that are used as decoders.
  ///
  /// - Throws: `Refusal` (`family-configuration`).
  func refuseDecoder() throws {
    if try flag("is_decoder") ?? false { throw refusal("'is_decoder' is not supported") }
  }

  /// Scores of a head whose weight is called `name`: of a classifier as many as its rows, and as the configuration
  /// states.
  ///
  /// - Throws: `Refusal` (`family-configuration`) where the two differ, `family-tensors` where it is absent.
  func scoreCount(_ name: String, _ tensors: TensorCatalog, for task: EncoderTask) throws -> Int {
    let rows = try tensors.matrix(name).rows
    if task == .questionAnswering {
      guard rows == 2 else { throw refusal("'\(name)' has \(rows) rows, not those of an answer's start and end") }
      return rows
    }
    // What transformers goes by: the names, else the number, else 2.
    let stated = try value("id2label")?.object?.count ?? size("num_labels") ?? (isPresent ? 2 : rows)
    guard stated == rows else {
      throw refusal("'id2label' and the like give \(stated) labels, '\(name)' has \(rows)")
    }
    return rows
  }
}

extension GraphBuilder {
  /// A dense layer with an activation function, outside of the blocks: a pooler, or the first half of a head.
  mutating func dense(
    _ name: String, _ input: String, _ inFeatures: Int, _ kind: ActivationKind, activation: String,
    outFeatures: Int? = nil
  ) -> String {
    let value = linear(name, input, inFeatures, outFeatures ?? inFeatures, bias: .required, role: .head)
    return add(activation, .activation(kind), value)
  }

  /// BERT's pooler, where the checkpoint has one or it `isRequired`: the output `pooled`.
  mutating func pooler(_ hidden: String, _ size: Int, isRequired: Bool = false) {
    let pooler = prefix + "pooler."
    guard isRequired || tensors[pooler + "dense.weight"] != nil else { return }
    let first = add(pooler + "first_token", .firstToken, hidden)
    outputs["pooled"] = dense(pooler + "dense", first, size, .tanh, activation: pooler + "activation")
  }

  /// The linear called `name` that gives the scores of a task.
  ///
  /// - Throws: `Refusal` as `Configuration.scoreCount`.
  mutating func classifier(
    _ name: String, _ input: String, _ inFeatures: Int, for task: EncoderTask, bias: Bias = .required
  ) throws {
    let count = try configuration.scoreCount("\(name).weight", tensors, for: task)
    outputs[task.output] = linear(name, input, inFeatures, count, bias: bias, role: .head)
  }

  /// The head of a sequence of RoBERTa and its kin: the first token's vector, `classifier.dense`, an activation
  /// function, `classifier.out_proj`.
  ///
  /// - Throws: as `classifier`.
  mutating func firstTokenClassifier(_ hidden: String, _ size: Int, _ kind: ActivationKind) throws {
    let first = add("classifier.first_token", .firstToken, hidden)
    let active = dense("classifier.dense", first, size, kind, activation: "classifier.activation")
    try classifier("classifier.out_proj", active, size, for: .sequenceClassification)
  }

  /// The classifier that `architectures` names, of RoBERTa and its kin; none where it names none.
  ///
  /// - Throws: as `classifier`.
  mutating func robertaClassifier(_ hidden: String, _ size: Int, _ kind: ActivationKind = .tanh) throws {
    switch configuration.task {
    case .sequenceClassification: try firstTokenClassifier(hidden, size, kind)
    case let task?: try classifier(task.linear, hidden, size, for: task)
    case nil: break
    }
  }

  /// The end of a decoder behind its last norm: the classifier or output head that the architecture names.
  ///
  /// - Throws: as `classifier`.
  mutating func decoderHead(
    _ name: String, _ hidden: String, _ size: Int, vocabulary: Int, table: String, isTied: Bool, bias: Bias = .denied
  ) throws {
    outputs = ["hidden": hidden]
    if let task = configuration.task { return try decoderClassifier(hidden, size, for: task) }
    guard hasHead(name, isTied: isTied) else { return }
    outputs = ["logits": head(name, hidden, size, vocabulary, table: .named(table), isTied: isTied, bias: bias)]
  }

  /// The classifier of a decoder, `score`, or `classifier` of tokens: of the last token that is not padding, or of
  /// each token; or its head for answers.
  ///
  /// - Throws: as `classifier`.
  mutating func decoderClassifier(_ hidden: String, _ size: Int, for task: EncoderTask) throws {
    if task == .questionAnswering { return try classifier(task.linear, hidden, size, for: task) }
    var input = hidden
    if task == .sequenceClassification {
      let padding = configuration.value("pad_token_id")?.integer
      input = add("score.last_token", .lastToken(LastToken(paddingToken: padding)), hidden)
    }
    let isScore = task == .sequenceClassification || tensors["score.weight"] != nil
    try classifier(
      isScore ? "score" : "classifier", input, size, for: task,
      bias: task == .sequenceClassification ? .denied : .optional)
  }

  /// The head of a masked language model: a dense layer with a norm, and a table that is tied to the words'.
  struct MaskedHead {
    /// The modules of the dense layer, its activation function, the norm and the table.
    let dense, activation, norm, decoder: String
    /// The bias of the logits.
    let bias: String
    let kind: ActivationKind

    /// That of RoBERTa and MPNet.
    static let roberta = MaskedHead(
      dense: "lm_head.dense", activation: "lm_head.activation", norm: "lm_head.layer_norm", decoder: "lm_head.decoder",
      bias: "lm_head.bias", kind: .gelu)
  }

  /// Adds the head of a masked language model, where the checkpoint has one or the architecture says so.
  ///
  /// - Throws: `Refusal` as `ModelFamily.build`.
  mutating func maskedHead(_ hidden: String, _ sizes: PostNormEncoder.Sizes, _ head: MaskedHead) throws {
    guard tensors["\(head.dense).weight"] != nil || configuration.architectureEnds(in: "ForMaskedLM") else { return }
    let active = dense(
      head.dense, hidden, sizes.hidden, head.kind, activation: head.activation, outFeatures: sizes.embedded)
    let normed = layerNorm(head.norm, active, size: sizes.embedded, epsilon: sizes.epsilon)
    let isTied =
      try configuration.flag("tie_word_embeddings")
      ?? (configuration.isPresent || tensors["\(head.decoder).weight"] == nil)
    // Two names of one bias, unless the head is not tied: the decoder's own is what is added.
    let hasOwnBias = tensors["\(head.decoder).bias"] != nil
    outputs["logits"] = self.head(
      head.decoder, normed, sizes.embedded, sizes.vocabulary, table: .named(sizes.table), isTied: isTied,
      biasSource: hasOwnBias ? nil : .named(head.bias))
  }
}
