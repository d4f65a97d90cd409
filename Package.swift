// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "otq",
  products: [
    .library(name: "OTQ", targets: ["OTQ"]),
    .executable(name: "otconvert", targets: ["otconvert"]),
    .executable(name: "otbench", targets: ["otbench"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // MARK: System libraries
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CJSONC", pkgConfig: "json-c", providers: [.apt(["libjson-c-dev"])]),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CMalloc"),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    // Only what `otbench kernels` compares with.
    .systemLibrary(name: "CDNNL", providers: [.apt(["libdnnl-dev"])]),

    // MARK: Foundations
    .target(name: "COTKernels"),
    .target(name: "OTTensor", dependencies: ["CMalloc"]),
    .target(name: "OTJSON", dependencies: ["CJSONC", "OTTensor"]),
    .target(name: "OTKernels", dependencies: ["COTKernels", "OTTensor"]),

    // MARK: Stages of the pipeline
    .target(name: "OTCheckpoint", dependencies: ["CZlib", "OTJSON", "OTTensor"]),
    .target(name: "OTGraph", dependencies: ["OTJSON", "OTTensor"]),
    .target(name: "OTQuantization", dependencies: ["OTGraph", "OTKernels", "OTTensor"]),
    .target(name: "OTContainer", dependencies: ["CZlib", "CZstd", "OTJSON", "OTKernels", "OTTensor"]),
    .target(name: "OTTokenizer", dependencies: ["OTJSON", "OTTensor"]),
    .target(
      name: "OTText", dependencies: ["CZstd", "OTJSON", "OTTensor", "OTTokenizer"],
      exclude: ["Resources/README.md"],
      // In the program itself: it needs no file beside it.
      resources: [.embedInCode("Resources/sample.jsonl")]),
    .target(name: "OTRuntime", dependencies: ["COpenBLAS", "OTContainer", "OTGraph", "OTKernels", "OTTensor"]),
    .target(
      name: "OTCalibration",
      dependencies: [
        "OTCheckpoint", "OTGraph", "OTJSON", "OTKernels", "OTQuantization", "OTRuntime", "OTTensor",
      ]),
    .target(
      name: "OTConversion",
      dependencies: [
        "CCrypto", "OTCalibration", "OTCheckpoint", "OTContainer", "OTGraph", "OTKernels", "OTQuantization",
        "OTRuntime", "OTTensor", "OTText", "OTTokenizer",
      ]),
    .target(
      name: "OTQ",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTGraph", "OTJSON", "OTQuantization", "OTRuntime", "OTTensor",
        "OTTokenizer",
      ]),
    .target(
      name: "OTVerify",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTGraph", "OTJSON", "OTKernels", "OTQuantization", "OTRuntime",
        "OTTensor",
      ]),

    // MARK: Commands
    .executableTarget(
      name: "otconvert",
      dependencies: [
        "OTCalibration", "OTCheckpoint", "OTContainer", "OTConversion", "OTGraph", "OTJSON", "OTKernels", "OTQ",
        "OTRuntime", "OTTensor", "OTText", "OTTokenizer", "OTVerify",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      // The demo's model: what a user of the built tool has at hand.
      resources: [.copy("Resources/opt-mini")]),
    .executableTarget(
      name: "otbench",
      dependencies: [
        "CDNNL", "COpenBLAS", "OTCalibration", "OTCheckpoint", "OTContainer", "OTConversion", "OTGraph", "OTJSON",
        "OTKernels", "OTQ", "OTQuantization", "OTRuntime", "OTTensor", "OTText", "OTTokenizer",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    // MARK: Tests
    .target(
      name: "_OTTestSupport", dependencies: ["OTCheckpoint", "OTTensor"], path: "Tests/_OTTestSupport"),
    .testTarget(name: "OTTensorTests", dependencies: ["OTTensor", "_OTTestSupport"]),
    .testTarget(name: "OTJSONTests", dependencies: ["OTJSON", "_OTTestSupport"]),
    .testTarget(name: "OTKernelsTests", dependencies: ["OTKernels", "_OTTestSupport"]),
    .testTarget(name: "OTCheckpointTests", dependencies: ["OTCheckpoint", "_OTTestSupport"]),
    .testTarget(
      name: "OTGraphTests",
      dependencies: [
        "OTCheckpoint", "OTConversion", "OTGraph", "OTJSON", "OTRuntime", "OTTensor",
        "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTRuntimeTests",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTGraph", "OTJSON", "OTKernels", "OTRuntime",
        "OTTensor", "_OTTestSupport",
      ]),
    .testTarget(name: "OTQuantizationTests", dependencies: ["OTQuantization", "_OTTestSupport"]),
    .testTarget(name: "OTContainerTests", dependencies: ["OTContainer", "_OTTestSupport"]),
    .testTarget(
      name: "OTConversionTests",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTGraph", "OTRuntime", "OTTensor", "OTVerify", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTVerifyTests",
      dependencies: [
        "OTCheckpoint", "OTContainer", "OTConversion", "OTGraph", "OTJSON", "OTRuntime", "OTTensor", "OTVerify",
        "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTTokenizerTests", dependencies: ["OTJSON", "OTTensor", "OTTokenizer", "_OTTestSupport"]),
    .testTarget(
      name: "OTTextTests", dependencies: ["CZstd", "OTTensor", "OTText", "OTTokenizer", "_OTTestSupport"]),
    .testTarget(
      name: "OTQTests",
      dependencies: [
        "OTCheckpoint", "OTConversion", "OTJSON", "OTQ", "OTRuntime", "OTTensor", "OTTokenizer", "_OTTestSupport",
      ]),
    .testTarget(
      name: "OTCalibrationTests",
      dependencies: [
        "OTCalibration", "OTCheckpoint", "OTConversion", "OTGraph", "OTRuntime", "OTTensor", "_OTTestSupport",
      ]),
    .testTarget(
      name: "EndToEndTests",
      dependencies: [
        "CZlib", "OTCheckpoint", "OTContainer", "OTJSON", "OTTensor", "_OTTestSupport", "otbench", "otconvert",
      ]),
  ],
  swiftLanguageModes: [.v6]
)
