// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "ExamplePackage",
  // By its folder's name, whatever that is, so that a clone may have any.
  dependencies: [.package(name: "otq", path: "../..")],
  targets: [
    .executableTarget(
      name: "Example", dependencies: [.product(name: "OTQ", package: "otq")],
      // Nothing but OTQ is imported, so its members must come from there.
      swiftSettings: [.enableUpcomingFeature("MemberImportVisibility")])
  ],
  swiftLanguageModes: [.v6]
)
