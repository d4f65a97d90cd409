/// A weight of a known model, and the models that have it.
struct KernelShape: Hashable {
  /// Output channels.
  let rowCount: Int
  /// Input channels.
  let columnCount: Int
  let models: String

  /// `rows x columns`, as weights are stored.
  var name: String { "\(rowCount)x\(columnCount)" }

  static let all = [
    KernelShape(rowCount: 768, columnCount: 768, models: "OPT-125M"),
    KernelShape(rowCount: 3072, columnCount: 768, models: "OPT-125M"),
    KernelShape(rowCount: 768, columnCount: 3072, models: "OPT-125M"),
    KernelShape(rowCount: 4096, columnCount: 4096, models: "OPT-6.7B, LLaMA-7B"),
    KernelShape(rowCount: 16384, columnCount: 4096, models: "OPT-6.7B"),
    KernelShape(rowCount: 4096, columnCount: 16384, models: "OPT-6.7B"),
    KernelShape(rowCount: 11008, columnCount: 4096, models: "LLaMA-7B"),
    KernelShape(rowCount: 4096, columnCount: 11008, models: "LLaMA-7B"),
    KernelShape(rowCount: 576, columnCount: 576, models: "SmolLM2-135M"),
    KernelShape(rowCount: 1536, columnCount: 576, models: "SmolLM2-135M"),
    KernelShape(rowCount: 576, columnCount: 1536, models: "SmolLM2-135M"),
  ]

  /// True when the name or a model's name contains `text`, in whatever case.
  func matches(_ text: String) -> Bool {
    name.contains(text) || models.lowercased().contains(text.lowercased())
  }
}
