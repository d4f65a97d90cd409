/// The formats that models are written in: one line for each.
package enum Writers {
  /// All writers.
  package static var all: [any ModelWriter.Type] {
    [
      OTQWriter.self,
      SafetensorsExport.self,
      QuantizedFolder<CompressedTensors>.self,
      GGUFExport.self,
      QuantizedFolder<MLX>.self,
      CTranslate2Export.self,
    ]
  }

  /// Those of formats of other tools.
  package static var exports: [any ModelWriter.Type] { all.filter { $0 != OTQWriter.self } }

  /// The writer of a format; nil where there is none.
  package static func named(_ format: String) -> (any ModelWriter.Type)? { all.first { $0.format == format } }
}
