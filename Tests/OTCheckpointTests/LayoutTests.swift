import Foundation
import OTCheckpoint
import OTFoundation
import Testing
import _OTTestSupport

/// The folders that tools leave models in.
@Suite struct LayoutTests {
  private static let pickle = Pickle.whole(Pickle.dictionary([("a", Pickle.tensor())]))

  private static func fill(_ folder: String, _ names: [String]) throws {
    for name in names {
      let path = "\(folder)/\(name)"
      try FileManager.default.createDirectory(atPath: path.parentPath, withIntermediateDirectories: true)
      let isPyTorch = [".bin", ".pt", ".pth", ".ckpt"].contains(where: name.hasSuffix)
      let tensor = String(name.filter { $0.isNumber })
      try write(isPyTorch ? Zip(pickle: pickle).bytes : safetensorsBytes(names: ["t" + tensor]), path)
    }
  }

  /// Names of files in a folder, and those that are read, or the rule that refuses it.
  @Test(arguments: [
    // A complete set without an index; shards that are not.
    (
      ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"],
      ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    ),
    (
      ["x-1-of-3.safetensors", "x-2-of-3.safetensors", "x-3-of-3.safetensors", "training_args.bin"],
      ["x-1-of-3.safetensors", "x-2-of-3.safetensors", "x-3-of-3.safetensors"]
    ),
    (["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"], ["directory-incomplete-set"]),
    (["model-00001-of-00002.safetensors"], ["directory-incomplete-set"]),
    (["a-00001-of-00002.safetensors", "b-00002-of-00002.safetensors"], ["directory-ambiguous"]),
    // What trainers and file systems put beside a model.
    (
      [
        "model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth",
        "scaler.pt",
      ], ["model.bin"]
    ),
    (["model.safetensors", "._model.safetensors", "._config.json"], ["model.safetensors"]),
    (["x.safetensors", "._x.safetensors", ".DS_Store.bin"], ["x.safetensors"]),
    (["x.safetensors", "optimizer.safetensors", "training_state.safetensors"], ["x.safetensors"]),
    (["pytorch_model_fsdp.bin", "optimizer.bin", "random_states_0.pkl"], ["pytorch_model_fsdp.bin"]),
    (
      [
        "mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
      ], ["mp_rank_00_model_states.pt"]
    ),
    (["epoch=1-step=10.ckpt", "last.ckpt"], ["directory-ambiguous"]),
    (["last.ckpt"], ["last.ckpt"]), (["optimizer.pt", "training_args.bin"], ["directory-no-checkpoint"]),
    (["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"], ["directory-no-checkpoint"]),
    // The makers' own.
    (["consolidated.00.pth", "params.json"], ["directory-other-layout"]),
    (["consolidated.safetensors", "params.json"], ["directory-other-layout"]),
    (["consolidated.safetensors", "params.json", "config.json"], ["directory-other-layout"]),
    (["consolidated.00.pth", "consolidated.01.pth"], ["directory-other-layout"]),
    (
      ["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors", "params.json"],
      ["directory-other-layout"]
    ),
    // Beside a model that is read.
    (["consolidated.safetensors", "params.json", "model.safetensors"], ["model.safetensors"]),
    (
      [
        "consolidated.safetensors", "params.json", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
      ], ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    ),
    // Several devices' parts.
    (["__0_0.distcp", "__1_0.distcp"], ["directory-other-layout"]),
    (["pytorch_model_fsdp_0/__0_0.distcp"], ["directory-no-checkpoint"]),
    (
      ["zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"],
      ["directory-other-layout"]
    ),
    (["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], ["directory-other-layout"]),
  ])
  func foldersOfTools(_ names: [String], _ expected: [String]) throws {
    try withTemporaryFolder { folder in
      try Self.fill(folder, names)
      do {
        let checkpoint = try Checkpoint.open(folder)
        #expect(checkpoint.files.map(\.name) == expected)
        #expect(checkpoint.tensors.count == expected.count && checkpoint.warnings.count <= 1)
      } catch let refusal as Refusal {
        #expect([refusal.rule] == expected && refusal.remedy != nil, "\(refusal)")
      }
    }
  }

  /// The folder or file that a refusal names can be read.
  @Test(arguments: [
    ("checkpoint-500", ["checkpoint-500/model.safetensors", "trainer_state.json"]),
    ("global_step100", ["global_step100/mp_rank_00_model_states.pt", "latest", "zero_to_fp32.py"]),
    ("models--a--b", ["models--a--b/snapshots/c/model.safetensors", "models--a--b/blobs/0"]),
    ("a.ckpt", ["a.ckpt", "b.ckpt"]), ("a.safetensors", ["a.safetensors", "b.safetensors"]),
  ])
  func whatARefusalNamesIsRead(_ named: String, _ names: [String]) throws {
    try withTemporaryFolder { folder in
      try Self.fill(folder, names)
      let refusal = try #require(try refusal { _ = try Checkpoint.open(folder) })
      #expect(refusal.remedy?.hasPrefix("give the path of ") == true && refusal.description.contains("'\(named)'"))
      #expect(try Checkpoint.open(folder + "/" + named).tensors.count == 1)
    }
  }

  /// One that lists the one file beside it, as some tools write.
  @Test func anIndexOfOneFile() throws {
    try withTemporaryFolder { folder in
      try Self.fill(folder, ["model.safetensors"])
      try write(IndexFault.map("\"t\":\"model.safetensors\""), folder + "/model.safetensors.index.json")
      let checkpoint = try Checkpoint.open(folder)
      #expect(checkpoint.files.map(\.name) == ["model.safetensors.index.json", "model.safetensors"])
      #expect(checkpoint.tensors.map(\.name) == ["t"])
    }
  }

  /// `models--ORGANIZATION--NAME`, with links into `blobs`.
  @Test func theCacheOfTheHub() throws {
    try withTemporaryFolder { folder in
      let manager = FileManager.default
      try Self.fill(folder, ["blobs/0a", "blobs/1b"])
      func add(_ revision: String, _ blob: String) throws {
        let snapshot = "\(folder)/snapshots/\(revision)"
        try manager.createDirectory(atPath: snapshot, withIntermediateDirectories: true)
        try manager.createSymbolicLink(
          atPath: snapshot + "/model.safetensors", withDestinationPath: "../../blobs/" + blob)
      }
      try add("aaaa", "0a")
      #expect(try Checkpoint.open(folder).tensors.map(\.name) == ["t0"])
      try add("bbbb", "1b")
      let several = try refusal { _ = try Checkpoint.open(folder) }
      #expect(several?.rule == "directory-ambiguous")
      #expect(try Checkpoint.open(folder + "/snapshots/aaaa").tensors.map(\.name) == ["t0"])
      try manager.createDirectory(atPath: folder + "/refs", withIntermediateDirectories: true)
      try write("bbbb\n", folder + "/refs/main")
      let checkpoint = try Checkpoint.open(folder)
      #expect(checkpoint.tensors.map(\.name) == ["t1"])
      #expect(checkpoint.attachments.directory == folder + "/snapshots/bbbb")
      #expect(try Checkpoint.open(folder + "/snapshots").tensors.map(\.name) == ["t1"])
      // A blob that was deleted.
      try manager.removeItem(atPath: folder + "/blobs/1b")
      let dead = try refusal { _ = try Checkpoint.open(folder) }
      #expect(dead?.rule == "file-missing" && dead?.message.contains("'../../blobs/1b'") == true)
    }
  }

  /// A training's file: the model under a key, an optimizer with numbered parameters, sets.
  @Test(arguments: ["state_dict", "model_state_dict", "model", "module"])
  func aTrainingsFile(_ key: String) throws {
    let weights = Pickle.dictionary([("model.a", Pickle.tensor()), ("model.b", Pickle.tensor())])
    let numbered = [0x7D] + Pickle.int(0) + Pickle.dictionary([("exp_avg", Pickle.tensor())]) + [0x73]
    let set = Pickle.global("builtins", "set") + Pickle.tuple([Pickle.list([Pickle.int(1)])]) + [0x52]
    let training = Pickle.dictionary([
      ("epoch", Pickle.int(3)), (key, weights), ("seen", set),
      ("optimizer", Pickle.dictionary([("state", Bytes(numbered))])),
    ])
    try withTemporaryFolder { folder in
      try write(Zip(pickle: Pickle.whole(training)).bytes, folder + "/last.ckpt")
      let checkpoint = try Checkpoint.open(folder)
      #expect(checkpoint.tensors.map(\.name) == ["\(key).model.a", "\(key).model.b"])
      #expect(checkpoint.warnings.contains { $0.contains("'optimizer.state.0.exp_avg'") }, "\(checkpoint.warnings)")
      // A state dict alone is all that there is, whatever its names.
      try write(Zip(pickle: Pickle.whole(weights)).bytes, folder + "/last.ckpt")
      #expect(try Checkpoint.open(folder).warnings.isEmpty)
    }
  }

  /// Archives that are no checkpoints, compressed or not, are named by what is in them.
  @Test(
    arguments: [
      ("pytorch-program", ["m/code/__torch__.py", "m/constants.pkl", "m/data.pkl", "m/version"]),
      ("pytorch-program", ["m/archive_format", "m/version"]),
      ("pytorch-other-format", ["config.json", "model.safetensors"]), ("pytorch-other-format", ["m/config.json"]),
    ], [0, 8])
  func otherArchives(_ expected: (String, [String]), method: Int) throws {
    let entries = expected.1.map { name in
      var entry = Zip.Entry(name: name, content: [1, 2, 3])
      entry.method = method
      return entry
    }
    let refusal = try withPyTorchFile(Zip(entries).bytes) { result -> Refusal? in
      if case .failure(let refusal) = result { refusal } else { nil }
    }
    #expect(refusal?.rule == expected.0 && refusal?.remedy?.isEmpty == false, "\(refusal.map(\.description) ?? "")")
    #expect(refusal?.remedy?.contains("uncompressed") == false)
  }

  /// A file that is no checkpoint is judged by the reader of its name's format.
  @Test(arguments: [
    ("m.bin", "pytorch-lfs", "version https://git-lfs.github.com/spec/v1\n"),
    ("m.pt", "pytorch-other-format", "<html>"),
    ("m.safetensors", "safetensors-is-html", "<html>"), ("m", "gguf-truncated", "GGUF\u{3}\0\0\0"),
    ("m.pt", "legacy-tar", String(repeating: "a", count: 257) + "ustar\u{0}00"),
  ])
  func otherFilesByName(_ name: String, _ rule: String, _ text: String) throws {
    try withTemporaryFolder { folder in
      try write(text, "\(folder)/\(name)")
      let refusal = try refusal { _ = try Checkpoint.open("\(folder)/\(name)") }
      #expect(refusal?.rule == rule && refusal?.remedy != nil, "\(name)")
    }
  }

  /// The pooling module and the list of modules, wherever sentence-transformers has put them.
  @Test(arguments: ["", "0_Transformer"], ["1_Pooling", "3_Mean"])
  func modulesOfSentenceTransformers(_ transformer: String, _ pooling: String) throws {
    try withTemporaryFolder { folder in
      let own = transformer.isEmpty ? folder : folder + "/" + transformer
      try Self.fill(own, ["model.safetensors"])
      let modules = """
        [{"path": "\(transformer)", "type": "sentence_transformers.models.Transformer"},
         {"path": "\(pooling)", "type": "sentence_transformers.models.Pooling"}]
        """
      try write(modules, folder + "/modules.json")
      try write("{}", folder + "/config_sentence_transformers.json")
      try FileManager.default.createDirectory(atPath: "\(folder)/\(pooling)", withIntermediateDirectories: true)
      try write("{\"pooling_mode_cls_token\": true}", "\(folder)/\(pooling)/config.json")
      // By the folder of the transformer, its file, and the folder of the modules.
      for path in [own, own + "/model.safetensors", folder] {
        let attachments = try Checkpoint.open(path).attachments
        for kind in [ModelAttachments.Kind.sentenceModules, .sentencePrompts, .pooling] {
          #expect(attachments[kind] != nil, "\(path): \(kind)")
        }
        #expect(try attachments.json(.pooling)?["pooling_mode_cls_token"]?.bool == true)
        #expect(attachments.name(of: .pooling) == pooling + "/config.json")
      }
      // Not another folder's.
      try Self.fill(folder, ["other/model.safetensors"])
      #expect(try Checkpoint.open(folder + "/other").attachments[.sentenceModules] == nil)
    }
  }
}
