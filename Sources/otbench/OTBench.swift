import ArgumentParser

@main
struct OTBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "otbench",
    abstract: "Measure otq on this machine: medians of several runs.",
    subcommands: [
      ConvertBenchmark.self, LoadBenchmark.self, KernelsBenchmark.self, ModelBenchmark.self, AccuracyBenchmark.self,
      ScaleBenchmark.self, MakeCheckpoint.self, ReadFiles.self, DamageFiles.self,
    ])
}
