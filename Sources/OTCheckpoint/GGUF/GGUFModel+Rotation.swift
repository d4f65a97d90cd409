import OTFoundation
import OTJSON
import OTPlatform
import OTTensor

extension GGUFModel {
  /// The members of rotary positions: keys `rope.…` and tensors of frequencies.
  ///
  /// - Throws: `Refusal` with rule `gguf-key` or `gguf-tensor`.
  func setRotation(_ members: inout JSONObject) throws {
    guard architecture.members["rope.freq_base"] != nil else { return }
    let first = files[0]
    func refuse(_ message: String) -> Refusal {
      first.refusal("gguf-key", message, remedy: "convert the checkpoint that it was made from")
    }
    func number(_ name: String) throws -> Double? {
      guard let value = key(name) else { return nil }
      guard let number = value.number, number.isFinite, number > 0 else {
        throw refuse("'\(architectureName).\(name)' is not a positive number")
      }
      return number
    }
    try setPart(&members, refuse)
    let original = try number("rope.scaling.original_context_length").flatMap { Int(exactly: $0) }
    var scaling: JSONObject = [:]
    let type = key("rope.scaling.type")?.string
    let factor = try number("rope.scaling.factor") ?? number("rope.scale_linear")
    switch type ?? (factor.map { $0 != 1 } == true ? "linear" : "none") {
    case "none": break
    case "linear":
      if let factor, factor != 1 { scaling = ["rope_type": .string("linear"), "factor": .number(factor)] }
    case "yarn":
      guard let factor, let original, key("rope.scaling.attn_factor") == nil else {
        throw refuse("the keys of a rotation of type 'yarn' are not understood")
      }
      scaling = [
        "rope_type": .string("yarn"), "factor": .number(factor), "original_max_position_embeddings": .integer(original),
      ]
      for member in ["beta_fast", "beta_slow"] {
        if let value = try number("rope.scaling.yarn_\(member)") { scaling[member] = .number(value) }
      }
      // Of DeepSeek's models 0.1 times the weight; both members are equal.
      if let weight = try number("rope.scaling.yarn_log_multiplier") {
        let factor = architecture.members["attention.kv_lora_rank"] == nil ? 1.0 : 10
        for member in ["mscale", "mscale_all_dim"] { scaling[member] = .number(weight * factor) }
      }
      if let growth = try number("attention.temperature_scale") { scaling["llama_4_scaling_beta"] = .number(growth) }
      for (member, value) in architecture.yarnMembers.members { scaling[member] = value }
    // Its tensors say more.
    case "longrope": break
    case let type: throw refuse("rotations of type '\(type.prefix(40))' are not read from GGUF")
    }
    if let divisors = try floats("rope_freqs.weight") {
      guard scaling.count == 0 else { throw refuse("has frequencies beside another change of the rotation") }
      scaling = try llama3(divisors, members)
    }
    if let long = try floats("rope_factors_long.weight"), let short = try floats("rope_factors_short.weight") {
      guard scaling.count == 0, let original else { throw refuse("has lists of frequencies without their length") }
      scaling = [
        "rope_type": .string("longrope"), "short_factor": .array(short.map { .number(Double($0)) }),
        "long_factor": .array(long.map { .number(Double($0)) }),
      ]
      if let amplitude = try number("rope.scaling.attn_factor") { scaling["attention_factor"] = .number(amplitude) }
      members["original_max_position_embeddings"] = .integer(original)
    }
    if scaling.count > 0 { members["rope_scaling"] = .object(scaling) }
  }

  /// The part of a head that is rotated.
  private func setPart(_ members: inout JSONObject, _ refuse: (String) -> Refusal) throws {
    // Of latent attention it is a size of its own.
    guard let rotated = key("rope.dimension_count")?.integer, key("attention.kv_lora_rank") == nil else { return }
    let hidden = key("embedding_length")?.integer ?? 0
    let heads = key("attention.head_count")?.integer ?? 0
    let stated = key("attention.key_length")?.integer
    guard let size = stated ?? (heads > 0 ? hidden / heads : nil), size > 0 else { return }
    if rotated == size {
      // Where nothing is said, a part of most models' heads is rotated, all of Phi-3's.
      if let member = architecture.partMember, architecture.modelType != "phi3" { members[member] = .number(1) }
      return
    }
    guard let member = architecture.partMember, rotated > 0, rotated < size else {
      throw refuse("'\(architectureName).rope.dimension_count' is \(rotated), heads have \(size) channels")
    }
    members[member] = .number(Double(rotated) / Double(size))
  }

  private func floats(_ name: String) throws -> [Float]? {
    for file in files {
      guard let tensor = file.tensors.first(where: { $0.name == name }) else { continue }
      guard tensor.type == .f32, tensor.shape.rank == 1, tensor.shape.elementCount <= 65_536 else {
        throw file.refusal("gguf-tensor", "is not a list of F32", tensor: name)
      }
      let values = file.view(of: tensor, named: name).narrowFloats(rows: 0..<tensor.shape.elementCount)
      guard values.allSatisfy({ $0.isFinite && $0 > 0 }) else {
        throw file.refusal("gguf-tensor", "has frequencies that are not positive", tensor: name)
      }
      return values
    }
    return nil
  }

  /// The parameters of LLaMA 3's rotation that give these divisors of the frequencies.
  ///
  /// The file has the divisors alone. Published models differ in the largest and in the original length; the waves
  /// that are kept or divided are those shorter than a quarter of that length or longer than it.
  private func llama3(_ divisors: [Float], _ members: JSONObject) throws -> JSONObject {
    let theta = members["rope_theta"]?.double ?? 10_000
    let factor = Double(divisors.max() ?? 1)
    for original in [8192.0, 4096, 16_384, 32_768, 65_536, 131_072] {
      let wanted = divisors.indices.map { index -> Double in
        let wave = 2 * Double.pi * pow(theta, Double(index) / Double(divisors.count))
        if wave < original / 4 { return 1 }
        if wave > original { return factor }
        let smooth = (original / wave - 1) / 3
        return 1 / ((1 - smooth) / factor + smooth)
      }
      guard zip(divisors, wanted).allSatisfy({ abs(Double($0) - $1) <= 1e-4 * $1 }) else { continue }
      return [
        "rope_type": .string("llama3"), "factor": .number(factor), "low_freq_factor": .number(1),
        "high_freq_factor": .number(4), "original_max_position_embeddings": .integer(Int(original)),
      ]
    }
    throw files[0].refusal(
      "gguf-tensor", "has divisors of frequencies that are not those of LLaMA 3", tensor: "rope_freqs.weight",
      remedy: "convert the checkpoint that it was made from")
  }
}
