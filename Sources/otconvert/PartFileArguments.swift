import ArgumentParser

/// The parts of a work that has no plan: the one that is made, or those that are put together.
struct PartFileArguments: ParsableArguments {
  @OptionGroup var share: ShareArguments
  @Option(
    name: .shortAndLong, help: ArgumentHelp("With --of: the file whose part is written.", valueName: "file"),
    completion: .file())
  var output: String?
  @Option(
    parsing: .upToNextOption, help: ArgumentHelp("Parts of one work, to be put together.", valueName: "file"),
    completion: .file())
  var merge: [String] = []
}
