import OTJSON
import OTTensor

public enum LLaMAFamily: ModelFamily {
  public static let name = "llama"
  public static let modelTypes = [name]
  public static func recognizes(tensorNames: Set<String>) -> Bool { false }
  public static func graph(configuration: JSONValue?, tensors: TensorCatalog) throws -> Graph {
    throw Refusal("family-unknown", "not built yet")
  }
}
