import OTFoundation

// The rules of migration. Downwards (into the linears that consume a site) the
// parameters follow from `transforms`; upwards it is decided here which
// operations pass a transform on, and where it has to stay on the edge.

extension Graph {
  /// The graph in which the site's value `x` is `(x − shift) ⊘ scale`, and
  /// which computes the same function.
  ///
  /// The transform goes into the parameters of what gives the site where a
  /// rule allows it; else a node `<producer>.affine` is put before the site's linears.
  /// On a site that is transformed already, both are composed.
  ///
  /// - Throws: `Refusal` for a site that this graph does not have
  ///   (`graph-site`), for vectors that are not finite, positive or of the
  ///   site's size (`graph-transform`), for unequal entries of channels that
  ///   share a value head (`graph-shared-channels`), and for a weight that is
  ///   tied to another node's (`graph-tied`).
  package func migrating(_ site: Site, by transform: ChannelTransform) throws -> Graph {
    try migrating(site, by: transform, staysOnEdge: false)
  }

  private func migrating(_ site: Site, by transform: ChannelTransform, staysOnEdge: Bool) throws -> Graph {
    try check(site)
    if let fault = transform.fault(channelCount: site.size) {
      throw Refusal("graph-transform", "the site '\(site.producer)': \(fault)")
    }
    if transform.isIdentity { return self }
    try refuseTiedWeights(of: site)

    let path =
      staysOnEdge && !site.isNormFed
      ? nil : pushPath(to: site.producer, readers: site.consumers, shift: transform.shift != nil)
    guard let path else {
      let name = freeName("\(site.producer).affine")
      return try inserting([edge(.affine, name, before: site)], changing: [name: transform])
    }
    var changed: [String: ChannelTransform] = [:]
    if let representatives = sharedChannels(on: path) {
      try refuseUnequal(representatives, of: site, transform: transform)
    }
    for step in path {
      let part = step.channels.map { transform.gathered($0) } ?? transform
      changed[step.node] = (changed[step.node] ?? transforms[step.node]).map { $0.followed(by: part) } ?? part
    }
    return try inserting([], changing: changed)
  }

  /// The graph in which the site's value `x` is `(x − shift) ⊘ scale`, without channels that are read apart, rotated,
  /// and which computes the same function.
  ///
  /// Shift and scale go where the rules let them; channels are taken apart as `splitting` says; the rotation is a node
  /// `<producer>.rotation` before the site's linears.
  ///
  /// - Throws: `Refusal` with rule `graph-rotation` for a site that is rotated already or
  ///   whose channels are no multiple of the block size, or as with a `ChannelTransform`.
  package func migrating(_ site: Site, by transform: SiteTransform) throws -> Graph {
    var moved = try migrating(site, by: transform.channels, staysOnEdge: transform.staysOnEdge)
    if let channels = transform.floatChannels {
      guard let site = moved[site.consumers[0]].flatMap({ moved.site(producedBy: $0.inputs[0]) }) else {
        preconditionFailure("migration keeps the linears of a site")
      }
      moved = try moved.splitting(site, keeping: channels)
    }
    guard let rotation = transform.rotation else { return moved }
    try check(site)
    guard let producer = moved.linear(for: site.consumers[0])?.inputs[0], let site = moved.site(producedBy: producer)
    else {
      preconditionFailure("migration keeps the linears of a site")
    }
    return try moved.rotating([(site, rotation)])
  }

  /// The graph in which the values of these sites are rotated, each by a node `<producer>.rotation` before its linears,
  /// and which computes the same function: all at once.
  ///
  /// - Throws: as `migrating`.
  package func rotating(_ rotations: [(site: Site, rotation: Rotation)]) throws -> Graph {
    try inserting(
      rotations.map { site, rotation in
        try check(site)
        if let fault = rotation.fault(channelCount: site.size) {
          throw Refusal("graph-rotation", "the site '\(site.producer)': \(fault)")
        }
        try refuseTiedWeights(of: site)
        return edge(.rotation(rotation), freeName("\(site.producer).rotation"), before: site)
      })
  }

  private func check(_ site: Site) throws {
    guard self.site(producedBy: site.producer) == site else {
      throw Refusal("graph-site", "'\(site.producer)' is not a site of this graph as described")
    }
    guard rotation(ofValue: site.producer) == nil else {
      throw Refusal("graph-rotation", "the site '\(site.producer)' is rotated already")
    }
  }

  /// The parts of a transform of the site that go into the parameters of its producer; what
  /// does not is put on the edge by `migrating`.
  package func pushability(of site: Site) -> SitePushability {
    func can(shift: Bool) -> Bool {
      pushPath(to: site.producer, readers: site.consumers, shift: shift) != nil
    }
    return SitePushability(shift: can(shift: true), scale: can(shift: false))
  }

  /// For each channel of the site, the first of the channels whose shift and
  /// scale must equal its own because they share a value channel; nil where
  /// every channel is free.
  package func sharedChannels(of site: Site) -> [Int]? {
    // An operation that lets a shift through also lets a scale through.
    pushPath(to: site.producer, readers: site.consumers, shift: false).flatMap(sharedChannels)
  }

  private func sharedChannels(on path: [Step]) -> [Int]? {
    path.lazy.compactMap { self[$0.node]?.operation.body.sharedChannels }.first
  }

  // MARK: Upwards

  /// A value on the way up, and which channel of the site each of its channels
  /// takes its entry from (nil: none; the list nil: one to one).
  private struct Step {
    let node: String
    var channels: [Int?]?
  }

  /// The values that change so that the value of `name` is transformed, or nil
  /// where no rule allows it. `readers` are the nodes that know of the change;
  /// a value that others read, too, cannot be changed.
  private func pushPath(to name: String, readers: [String], shift: Bool) -> [Step]? {
    var path: [Step] = []
    var name = name
    var readers = readers
    var channels: [Int?]?
    var seen = Set<String>()
    while let node = self[name], seen.insert(name).inserted {
      guard consumers(of: name).filter({ !isRouter($0) }) == readers, !outputs.values.contains(name) else { return nil }
      path.append(Step(node: name, channels: channels))
      let transform = PushedTransform(shifts: shift, channels: channels)
      switch node.operation.body.push(transform, into: node, of: self) {
      case .parameters(let tensors): return isTied(tensors) ? nil : path
      case .input(let input, let others, let inputChannels): (name, readers, channels) = (input, others, inputChannels)
      case nil: return nil
      }
    }
    return nil
  }

  /// True when the node gives the scores of a router, whose own weights make up for any transform of what it reads.
  private func isRouter(_ name: String) -> Bool {
    guard case .linear(let linear)? = self[name]?.operation else { return false }
    return linear.role == .router && !isTied([linear.weight, linear.bias])
  }

  private func isTied(_ tensors: [SourceTensor?]) -> Bool {
    tensors.contains { $0.map { (useCounts[$0] ?? 0) > 1 } ?? false }
  }

  // MARK: On the edge

  /// A node `name` between the site and its linears.
  private func edge(_ operation: Operation, _ name: String, before site: Site) -> Edge {
    Edge(node: Node(name, operation, inputs: [site.producer]), readers: site.consumers)
  }

  /// `name`, or what no node is called: a site that is given by an affine node is always
  /// pushable unless somebody else reads that node; then a second one stands behind it.
  func freeName(_ name: String) -> String {
    guard self[name] != nil, let suffix = name.split(separator: ".").last else { return name }
    return freeName("\(name).\(suffix)")
  }

  // MARK: Refusals

  func refuseTiedWeights(of site: Site) throws {
    for name in site.consumers {
      guard case .linear(let linear)? = self[name]?.operation else { continue }
      if isTied([linear.weight, linear.bias]) {
        throw Refusal(
          "graph-tied", "the parameters of '\(name)' serve another node, too, and cannot change",
          tensor: linear.weight.name)
      }
    }
  }

  private func refuseUnequal(
    _ representatives: [Int], of site: Site, transform: ChannelTransform
  ) throws {
    for vector in [transform.shift, transform.scale].compactMap({ $0 }) {
      for (channel, representative) in representatives.enumerated()
      where vector[channel] != vector[representative] {
        throw Refusal(
          "graph-shared-channels",
          "channels \(representative) and \(channel) of '\(site.producer)' share a value channel "
            + "and need equal entries")
      }
    }
  }
}
