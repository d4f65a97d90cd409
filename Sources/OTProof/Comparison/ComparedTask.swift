import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTQ

extension ComparedTask {
  /// What decides about its figures.
  ///
  /// - Throws: `Refusal` with a rule `file-…`.
  func identity() throws -> JSONValue {
    let file = try MappedFile(path: path)
    var members: JSONObject = [
      "name": .string(name), "title": .string(title), "byteCount": .integer(file.byteCount),
      "sha256": .string(try SHA256Digest.hex(of: file)),
    ]
    if let limit { members["limit"] = .integer(limit) }
    return .object(members)
  }

  /// What a model achieves.
  ///
  /// - Throws: as tasks refuse data and models.
  func figures(of model: LanguageModel) throws -> TaskFigures {
    let outcome = try model.evaluate(EvaluationTask.named(name), data: path, limit: limit)
    let answers = outcome.items.map { $0.isRight.map { $0 ? "1" : "0" } ?? "-" }
    return TaskFigures(
      name: title,
      figures: outcome.figures.map { .init(name: $0.name, value: $0.value, standardError: $0.standardError) },
      answers: answers.joined())
  }
}
