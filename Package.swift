// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "otq",
  products: [
    .library(name: "OTQ", targets: ["OTQ"]),
    .library(name: "otq", type: .dynamic, targets: ["OTQC"]),
    .executable(name: "otconvert", targets: ["otconvert"]),
    .executable(name: "otbench", targets: ["otbench"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    // Only for `swift package generate-documentation`: no target uses it.
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.4.0"),
  ],
  targets: [
    // MARK: System libraries
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CJSONC", pkgConfig: "json-c", providers: [.apt(["libjson-c-dev"])]),
    // Declarations alone: the library is loaded when floats are first multiplied.
    .systemLibrary(name: "COpenBLAS"),
    .systemLibrary(name: "CMalloc"),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "COniguruma", pkgConfig: "oniguruma", providers: [.apt(["libonig-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    // Declarations alone: `otbench kernels` looks for the library when it runs.
    .systemLibrary(name: "CDNNL"),

    // MARK: Foundations
    // scripts/package names the commit in the environment.
    .target(
      name: "COTBuild",
      cSettings: Context.environment["OTQ_BUILD"].map { [.define("OTQ_BUILD", to: "\"\($0)\"")] } ?? []),
    .target(name: "COTKernels"),
    .target(name: "OTPlatform"),
    .target(name: "OTFoundation", dependencies: ["CMalloc", "OTPlatform"]),
    .target(name: "OTTensor", dependencies: ["OTFoundation"]),
    .target(name: "OTJSON", dependencies: ["CJSONC", "OTFoundation"]),
    .target(name: "OTKernels", dependencies: ["COTKernels", "OTFoundation", "OTTensor"]),

    // MARK: Stages of the pipeline
    .target(
      name: "OTCheckpoint", dependencies: ["CZlib", "OTFoundation", "OTJSON", "OTKernels", "OTPlatform", "OTTensor"]),
    .target(name: "OTGraph", dependencies: ["OTFoundation", "OTJSON", "OTPlatform", "OTTensor"]),
    .target(
      name: "OTContainer",
      dependencies: ["CZlib", "CZstd", "OTFoundation", "OTJSON", "OTKernels", "OTPlatform", "OTTensor"]),
    .target(
      name: "OTTokenizer", dependencies: ["COniguruma", "OTFoundation", "OTJSON", "OTPlatform"],
      // In the program itself: it needs no file beside it.
      resources: [.embedInCode("Resources/decompositions.txt")]),
    .target(
      name: "OTText", dependencies: ["CZlib", "CZstd", "OTFoundation", "OTJSON", "OTPlatform", "OTTokenizer"],
      exclude: ["Resources/README.md"],
      // In the program itself: it needs no file beside it.
      resources: [.embedInCode("Resources/sample.jsonl")]),
    .target(
      name: "OTRuntime",
      dependencies: ["COpenBLAS", "OTContainer", "OTFoundation", "OTGraph", "OTKernels", "OTPlatform", "OTTensor"]),
    .target(
      name: "OTModel",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTRuntime", "OTTensor",
        "OTTokenizer",
      ]),
    .target(
      name: "OTObservation",
      dependencies: [
        "OTCheckpoint", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTModel", "OTRuntime", "OTTensor",
      ]),
    .target(
      name: "OTQuantization",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTModel", "OTObservation",
        "OTPlatform", "OTRuntime", "OTTensor",
      ]),
    .target(
      name: "OTExport",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTModel", "OTPlatform",
        "OTQuantization", "OTTensor",
      ]),
    .target(
      name: "OTConversion",
      dependencies: [
        "CCrypto", "OTCheckpoint", "OTContainer", "OTExport", "OTFoundation", "OTGraph", "OTJSON", "OTKernels",
        "OTModel", "OTObservation", "OTPlatform", "OTQuantization", "OTRuntime", "OTTensor", "OTText", "OTTokenizer",
      ]),
    .target(
      name: "OTVerify",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTModel", "OTObservation",
        "OTPlatform", "OTRuntime", "OTTensor",
      ]),

    // MARK: Libraries
    .target(
      name: "OTQ",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTExport", "OTFoundation", "OTGraph", "OTJSON", "OTKernels",
        "OTModel", "OTObservation", "OTPlatform", "OTQuantization", "OTRuntime", "OTTensor", "OTText", "OTTokenizer",
        "OTVerify",
      ]),
    .target(
      name: "OTProof",
      dependencies: [
        "OTContainer", "OTConversion", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTModel", "OTObservation",
        "OTQ", "OTQuantization", "OTRuntime", "OTTensor", "OTVerify",
      ]),
    // The declarations that OTQC implements.
    .systemLibrary(name: "COTQ"),
    .target(
      name: "OTQC",
      dependencies: ["COTQ", "OTFoundation", "OTGraph", "OTJSON", "OTPlatform", "OTQ", "OTTensor"]),

    // MARK: Commands
    .executableTarget(
      name: "otconvert",
      dependencies: [
        "COTBuild", "OTCheckpoint", "OTContainer", "OTConversion", "OTExport", "OTFoundation", "OTGraph", "OTJSON",
        "OTKernels", "OTModel", "OTObservation", "OTProof", "OTQ", "OTQuantization", "OTRuntime", "OTTensor", "OTText",
        "OTTokenizer", "OTVerify",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      // The demo's model: what a user of the built tool has at hand.
      resources: [.copy("Resources/opt-mini")]),
    .executableTarget(
      name: "otbench",
      dependencies: [
        "CDNNL", "COpenBLAS", "OTCheckpoint", "OTContainer", "OTConversion", "OTFoundation",
        "OTGraph", "OTJSON", "OTKernels", "OTModel", "OTObservation", "OTQ", "OTQuantization", "OTRuntime", "OTTensor",
        "OTText",
        "OTTokenizer", "OTVerify",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    // MARK: Tests
    .target(
      name: "_OTTestSupport", dependencies: ["OTCheckpoint", "OTFoundation", "OTTensor"],
      path: "Tests/_OTTestSupport"),
    .target(
      name: "_OTModelSupport",
      dependencies: [
        "OTCheckpoint", "OTConversion", "OTFoundation", "OTGraph", "OTJSON", "OTModel", "OTObservation",
        "OTQuantization",
        "OTRuntime", "OTTensor",
        "_OTTestSupport",
      ],
      path: "Tests/_OTModelSupport"),
    // What scripts/fuzz runs, and OTFuzzTests on the corpus.
    .target(
      name: "_OTFuzzTargets",
      dependencies: [
        "CZlib", "OTCheckpoint", "OTContainer", "OTConversion", "OTFoundation", "OTGraph", "OTJSON", "OTModel",
        "OTObservation", "OTQuantization", "OTRuntime", "OTTensor", "OTText", "OTTokenizer",
      ],
      path: "Tests/_OTFuzzTargets"),
    .target(name: "_OTCSupport", dependencies: ["COTQ", "OTQC"], path: "Tests/_OTCSupport"),
    .testTarget(name: "OTFoundationTests", dependencies: ["OTFoundation", "_OTTestSupport"]),
    .testTarget(name: "OTJSONTests", dependencies: ["OTJSON", "_OTTestSupport"]),
    .testTarget(name: "OTKernelsTests", dependencies: ["OTKernels", "_OTTestSupport"]),
    .testTarget(
      name: "OTCheckpointTests", dependencies: ["OTCheckpoint", "OTObservation", "_OTCSupport", "_OTTestSupport"]),
    .testTarget(
      name: "OTGraphTests",
      dependencies: [
        "OTCheckpoint", "OTConversion", "OTFoundation", "OTGraph", "OTJSON", "OTModel", "OTRuntime", "OTTensor",
        "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTRuntimeTests",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTModel",
        "OTObservation", "OTRuntime", "OTTensor", "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTQuantizationTests",
      dependencies: [
        "OTCheckpoint", "OTConversion", "OTExport", "OTFoundation", "OTGraph", "OTJSON", "OTKernels", "OTModel",
        "OTObservation",
        "OTQuantization", "OTRuntime", "OTTensor", "OTVerify", "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(name: "OTContainerTests", dependencies: ["OTContainer", "_OTCSupport", "_OTTestSupport"]),
    .testTarget(
      name: "OTConversionTests",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTExport", "OTFoundation", "OTGraph", "OTJSON", "OTModel",
        "OTObservation", "OTQuantization", "OTRuntime", "OTTensor", "OTTokenizer", "OTVerify", "_OTCSupport",
        "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTVerifyTests",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTFoundation", "OTGraph", "OTJSON", "OTModel", "OTObservation",
        "OTRuntime", "OTTensor", "OTVerify", "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTProofTests",
      dependencies: [
        "OTConversion", "OTFoundation", "OTGraph", "OTJSON", "OTModel", "OTObservation", "OTProof", "OTQ",
        "OTQuantization", "OTRuntime", "OTVerify", "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTTokenizerTests", dependencies: ["OTFoundation", "OTJSON", "OTTokenizer", "_OTTestSupport"]),
    .testTarget(
      name: "OTTextTests",
      dependencies: ["CZlib", "CZstd", "OTFoundation", "OTText", "OTTokenizer", "_OTTestSupport"]),
    .testTarget(
      name: "OTQTests",
      dependencies: [
        "OTCheckpoint", "OTConversion", "OTFoundation", "OTJSON", "OTModel", "OTQ", "OTQuantization", "OTRuntime",
        "OTTensor", "OTTokenizer", "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTQCTests",
      dependencies: ["COTQ", "OTQ", "OTQC", "_OTCSupport", "_OTTestSupport"]),
    .testTarget(name: "OTFuzzTests", dependencies: ["_OTFuzzTargets", "_OTTestSupport"]),
    .testTarget(
      name: "OTObservationTests",
      dependencies: [
        "OTCheckpoint", "OTConversion", "OTFoundation", "OTGraph", "OTModel", "OTObservation", "OTQuantization",
        "OTRuntime", "OTTensor", "_OTModelSupport", "_OTTestSupport",
      ]),
    .testTarget(
      name: "EndToEndTests",
      dependencies: [
        "CZlib", "OTCheckpoint", "OTContainer", "OTFoundation", "OTJSON", "OTQ", "OTTensor", "otbench", "otconvert",
        "_OTTestSupport",
      ]),
  ],
  swiftLanguageModes: [.v6]
)

// Links libFuzzer, so that only scripts/fuzz builds it.
if Context.environment["OTQ_FUZZ"] != nil {
  package.targets.append(.executableTarget(name: "otfuzz", dependencies: ["_OTFuzzTargets"], path: "Tests/otfuzz"))
}
