import OTFoundation

/// A folder in which a checkpoint is looked for.
struct ModelFolder {
  /// Endings of the names of files of `torch.save`.
  static let pyTorchSuffixes = [".bin", ".pt", ".pth", ".ckpt"]

  /// The ending of the names of llama.cpp's files.
  static let ggufSuffix = ".gguf"

  private static let safetensorsNames = ["model.safetensors", "model.safetensors.index.json"]
  private static let pyTorchNames = ["pytorch_model.bin", "pytorch_model.bin.index.json"]
  /// Beginnings of the names of what trainers keep beside a model.
  private static let trainingNames = [
    "training_args", "optimizer", "scheduler", "scaler", "rng_state", "random_states", "trainer_state",
    "zero_pp_rank", "bf16_zero_pp_rank", "training_state",
  ]

  /// The files that hold a model.
  struct Choice {
    /// One file, an index, or all shards of a set without an index.
    let names: [String]
    var warnings: [String] = []
  }

  let path: String
  /// Names of all that is in the folder and not hidden, sorted.
  let names: [String]

  /// The folder at `path`, the snapshot in it where it is the folder of a model in the cache of
  /// Hugging Face's hub, or the folder of its transformer where it is a model of sentence-transformers.
  ///
  /// Nil when `path` is no folder.
  init?(path: String) throws {
    var path = path
    guard var names = try ModelFolder.names(in: path) else { return nil }
    if path.resolvedName == "snapshots", !names.contains(where: ModelFolder.holdsTensors),
      let above = try ModelFolder.names(in: path.appendingPathComponent("..")), above.contains("snapshots")
    {
      (path, names) = (path.appendingPathComponent(".."), above)
    }
    if let snapshot = try ModelFolder.snapshot(in: path, names), let inner = try ModelFolder.names(in: snapshot) {
      (path, names) = (snapshot, inner)
    }
    if names.contains(SentenceModules.fileName), !names.contains(where: ModelFolder.holdsTensors),
      let transformer = SentenceModules(folder: path)?.transformer, !transformer.isEmpty,
      let inner = try ModelFolder.names(in: path.appendingPathComponent(transformer))
    {
      (path, names) = (path.appendingPathComponent(transformer), inner)
    }
    self.path = path
    self.names = names
  }

  /// Sorted; hidden files are left out, of which some systems put one beside every file. Nil when there is no folder.
  private static func names(in path: String) throws -> [String]? {
    guard FileSystem.isFolder(path) else { return nil }
    return try FileSystem.names(in: path).filter { !$0.hasPrefix(".") }.sorted()
  }

  private static func holdsTensors(_ name: String) -> Bool {
    ([".safetensors", ".index.json"] + pyTorchSuffixes).contains(where: name.hasSuffix)
  }

  /// The snapshot in a folder of the hub's cache, `models--ORGANIZATION--NAME`: the one of `main`, else the only one.
  private static func snapshot(in path: String, _ names: [String]) throws -> String? {
    guard names.contains("snapshots"), names.contains("refs") || names.contains("blobs") else { return nil }
    let folder = path.appendingPathComponent("snapshots")
    let snapshots = try self.names(in: folder) ?? []
    let main = FileSystem.text(of: path.appendingPathComponent("refs/main"))
    let wanted = main.map { $0.filter { !$0.isWhitespace } }
    if let name = snapshots.first(where: { $0 == wanted }) ?? (snapshots.count == 1 ? snapshots[0] : nil) {
      return folder.appendingPathComponent(name)
    }
    throw Refusal(
      snapshots.isEmpty ? "directory-no-checkpoint" : "directory-ambiguous",
      "is a folder of the hub's cache with \(snapshots.count) snapshots"
        + (wanted.map { ", none of which is the one of 'main', '\($0.prefix(64))'" } ?? ""), file: path,
      remedy: snapshots.isEmpty ? "download the model again" : "give the path of one of its snapshots")
  }

  // MARK: Choosing

  /// The files that hold the model.
  ///
  /// The usual names come first: other safetensors files may hold anything.
  /// Safetensors is preferred to PyTorch's format, with a warning.
  func choose() throws -> Choice {
    let pyTorch = ModelFolder.pyTorchNames.filter(names.contains)
    if let chosen = try only(ModelFolder.safetensorsNames.filter(names.contains)) {
      return Choice(
        names: chosen, warnings: pyTorch.map { "\(Refusal.printable(path)): '\($0)' is ignored for '\(chosen[0])'" })
    }
    try checkLayout()
    let indices = names.filter { $0.hasSuffix(".safetensors.index.json") }
    let tensors = names.filter { $0.hasSuffix(".safetensors") && !ModelFolder.isOfTraining($0) }
    // The maker's own file beside the model that is read.
    let models = tensors.filter { !$0.hasPrefix("consolidated") }
    // The shards of an index are no checkpoints of their own.
    let others = indices.isEmpty ? models.isEmpty ? tensors : models : indices
    if let chosen = try only(others + pyTorch) { return Choice(names: chosen) }
    let rest = names.filter { name in
      ModelFolder.pyTorchSuffixes.contains(where: name.hasSuffix) && !ModelFolder.isOfTraining(name)
    }
    if let chosen = try only(rest) { return Choice(names: chosen) }
    if let chosen = try only(names.filter { $0.hasSuffix(ModelFolder.ggufSuffix) }) { return Choice(names: chosen) }
    throw nothing
  }

  /// The one candidate, or all shards of the one set; nil when there is none.
  private func only(_ candidates: [String]) throws -> [String]? {
    guard !candidates.isEmpty else { return nil }
    // What an index lists belongs to it.
    let listed = try candidates.filter { $0.hasSuffix(".index.json") }
      .flatMap { try ShardedIndex(MappedFile(path: path.appendingPathComponent($0))).shardNames }
    let left = candidates.filter { !listed.contains($0) }
    if let set = try shards(left) { return set }
    guard left.count > 1 else { return left }
    let list = left.prefix(4).map { "'\($0)'" }.joined(separator: ", ")
    throw Refusal(
      "directory-ambiguous", "holds \(left.count) candidates for the model: \(list)",
      file: path, remedy: "give the path of the one to read")
  }

  /// The files in the order of their numbers where all are shards of one set; nil where they are not.
  private func shards(_ names: [String]) throws -> [String]? {
    let numbered = names.compactMap { name in ShardNumber(name).map { (number: $0, name) } }
    guard let first = numbered.first?.number, numbered.count == names.count,
      numbered.allSatisfy({ $0.number.prefix == first.prefix && $0.number.count == first.count })
    else { return nil }
    let indices = Set(numbered.map(\.number.index))
    if let missing = (1...first.count).first(where: { !indices.contains($0) }) {
      throw Refusal(
        "directory-incomplete-set",
        "holds \(names.count) of the \(first.count) shards that '\(names[0])' counts: number \(missing) is not there",
        file: path, remedy: "download all shards")
    }
    guard indices.count == names.count, indices.count == first.count else { return nil }
    return numbered.sorted { $0.number.index < $1.number.index }.map { $0.1 }
  }

  /// Names the layouts that are not read.
  ///
  /// - Throws: `Refusal` with rule `directory-other-layout`.
  private func checkLayout() throws {
    func refuse(_ message: String, _ remedy: String) -> Refusal {
      Refusal("directory-other-layout", message, file: path, remedy: remedy)
    }
    let weights = names.filter { ModelFolder.holdsTensors($0) && !ModelFolder.isOfTraining($0) }
    let makers = weights.filter { $0.hasPrefix("consolidated") }
    if !makers.isEmpty, makers.count == weights.count, names.contains("params.json") || makers.count > 1 {
      throw refuse(
        "holds a model in the layout of its maker: consolidated weights and params.json",
        "convert it to the layout of Hugging Face, with the script that transformers has for it; "
          + "the path of one of its files and --weights-only pack the matrices of that file")
    }
    if names.contains(where: { $0.hasSuffix(".distcp") }) {
      throw refuse(
        "holds the shards of a distributed checkpoint (*.distcp)",
        "join them with torch.distributed.checkpoint.format_utils.dcp_to_torch_save")
    }
    if names.contains(where: { $0.hasPrefix("zero_pp_rank") && $0.contains("model_states") }) {
      throw refuse(
        "holds the shards of DeepSpeed's ZeRO-3, each with a part of every parameter",
        "join them with the script zero_to_fp32.py, which DeepSpeed wrote into the folder above")
    }
    let slices = names.filter { $0.hasPrefix("mp_rank_") }
    if slices.count > 1 {
      throw refuse(
        "holds \(slices.count) slices of a model that was trained on several devices (mp_rank_…)",
        "join them with the program that wrote them")
    }
  }

  private static func isOfTraining(_ name: String) -> Bool { trainingNames.contains(where: name.hasPrefix) }

  private var nothing: Refusal {
    // Checkpoints of a training lie in folders of their own, and so do the models of the hub's cache.
    let folders = ["checkpoint-", "global_step", "pytorch_model_fsdp_", "models--"]
    let steps = names.filter { folders.contains(where: $0.hasPrefix) }
    return Refusal(
      "directory-no-checkpoint", "holds no checkpoint: no *.safetensors, index, *.bin or *.gguf", file: path,
      remedy: steps.last.map { "give the path of one of its folders, such as '\($0)'" } ?? "give the path of the file")
  }
}
