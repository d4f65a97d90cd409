import OTConversion

/// The rows of a paper's tables.
package enum ComparisonPreset: String, Sendable, CaseIterable {
  /// Outlier Suppression+ (arXiv 2304.09145) on BERT: INT8* (one scale for a whole weight), INT8, INT6, INT4.
  case osplusBert = "osplus-bert"
  /// Outlier Suppression+ on language models: INT8*, INT8 and INT6 with one range for a site, INT6 and INT4 with a scale
  /// per token, INT4 in groups; and what its two steps give alone.
  case osplusLLM = "osplus-llm"
  /// OutlierTune (arXiv 2406.18832): INT8 and INT6 with a scale per token, per channel, and per channel after
  /// symmetrization; and weights of fewer bits than activations.
  case outlierTune = "outliertune"

  /// Its rows, in the order of the tables.
  package var rows: [ComparisonRow] {
    switch self {
    case .osplusBert:
      ComparisonPreset.staticRows(steps: { "step=0.01,tries=\($0 == 8 ? 10 : $0 == 6 ? 30 : 90)" }, [8, 6, 4])
        + ComparisonPreset.ablation(bits: 6)
    case .osplusLLM:
      ComparisonPreset.staticRows(steps: { "tries=\($0 == 8 ? 10 : 20)" }, [8, 6])
        + ComparisonPreset.ablation(bits: 6) + ComparisonPreset.tokenRows
    case .outlierTune: ComparisonPreset.outlierTuneRows
    }
  }

  private static func rows(
    _ group: String, _ setting: String, _ methods: [(method: String, label: String?)]
  ) -> [ComparisonRow] {
    guard let setting = ConversionSetting(setting) else { return [] }
    return methods.map { ComparisonRow(method: $0.method, setting: setting, label: $0.label, group: group) }
  }

  /// The methods with one static range for a site. Ranges are symmetric with 8 bits, as in the paper, else they have
  /// ends of their own.
  private static func staticRows(steps: (Int) -> String, _ bits: [Int]) -> [ComparisonRow] {
    func methods(_ bits: Int) -> [(method: String, label: String?)] {
      let symmetric = bits == 8 ? ",symmetric=true" : ""
      let form = bits == 8 ? "symmetric" : "asymmetric"
      return [
        ("minmax\(symmetric)", "minmax"), ("omse\(symmetric)", "omse"), ("percentile,p=0.9999", "percentile"),
        ("smoothquant,norms-only=true,activations=\(form)", "smoothquant"),
        ("os,search=true,\(steps(bits))\(symmetric)", "os"), ("osplus,activations=\(form)", "osplus"),
      ]
    }
    return rows("INT8*", "w8a8/weights:tensor/weights:symmetric", methods(8))
      + bits.flatMap { bits in
        rows("INT\(bits)", "w\(bits)a\(bits)" + (bits == 8 ? "/weights:symmetric" : ""), methods(bits))
      }
  }

  /// What shifting and scaling give alone.
  private static func ablation(bits: Int) -> [ComparisonRow] {
    rows(
      "INT\(bits), steps of osplus", "w\(bits)a\(bits)",
      [
        ("osplus,activations=asymmetric", "shift and scale"), ("osplus,shift=false", "without shift"),
        ("osplus,scale=false", "without scale"),
        ("osplus,shift=false,scale=false", "neither"),
      ])
  }

  private static let tokenRows: [ComparisonRow] =
    [6, 4].flatMap { bits in
      rows(
        "INT\(bits) per token", "w\(bits)a\(bits)/token:asymmetric",
        [
          ("per-token", nil), ("smoothquant,norms-only=true", "smoothquant"),
          ("osplus,activations=token", "osplus"),
        ])
    }
    + rows(
      "INT4 in groups", "w4a4/g32/group:32",
      [
        ("per-token", nil), ("smoothquant,norms-only=true", "smoothquant"), ("osplus,activations=token", "osplus"),
      ])

  private static let outlierTuneRows: [ComparisonRow] = [(8, 8), (6, 8), (6, 6), (4, 8), (4, 4)].flatMap { bits in
    rows(
      bits.0 == bits.1 ? "INT\(bits.0)" : "W\(bits.0)A\(bits.1)", "w\(bits.0)a\(bits.1)",
      [
        ("per-token", nil), ("smoothquant,norms-only=true", "smoothquant"),
        ("outliertune,symmetrize=false", "outliertune without symmetrization"), ("outliertune", nil),
      ])
  }
}
