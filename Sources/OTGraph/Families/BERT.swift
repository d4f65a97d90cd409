import OTJSON
import OTTensor

public enum BERTFamily: ModelFamily {
  public static let name = "bert"
  public static let modelTypes = [name]
  public static func recognizes(tensorNames: Set<String>) -> Bool { false }
  public static func graph(configuration: JSONValue?, tensors: TensorCatalog) throws -> Graph {
    throw Refusal("family-unknown", "not built yet")
  }
}
