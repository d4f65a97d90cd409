extension HTMLPage {
  /// The style sheet of every page. Colours are named once for light and once for dark.
  static var style: StaticString {
    """

      :root {
        color-scheme: light dark;
        --page: #f6f7f9; --card: #ffffff; --ink: #1b1f24; --muted: #59636e; --line: #dfe3e8; --grid: #e9ecf0;
        --ok: #116932; --ok-fill: #dff3e5; --bad: #b3261e; --bad-fill: #fce4e1; --bar: #d5e3f7;
        --before: #c76a15; --after: #2a66c4; --steps: #1c7f72; --limit: #b3261e;
        --c0: #2a66c4; --c1: #c76a15; --c2: #1c7f72; --c3: #8a4fbf; --c4: #b0306f; --c5: #6f7d10; --c6: #0f7ea8;
        --c7: #6b7480;
      }
      @media (prefers-color-scheme: dark) {
        :root {
          --page: #12151a; --card: #1a1f26; --ink: #e6eaef; --muted: #9aa5b1; --line: #2e3641; --grid: #262d36;
          --ok: #6fd391; --ok-fill: #15351f; --bad: #ff8d83; --bad-fill: #43191a; --bar: #24405f;
          --before: #eea35b; --after: #79acff; --steps: #55c7b5; --limit: #ff8d83;
          --c0: #79acff; --c1: #eea35b; --c2: #55c7b5; --c3: #c39bf0; --c4: #f28bbb; --c5: #c5cf5c; --c6: #62c4ea;
          --c7: #a4aeb9;
        }
      }
      * { box-sizing: border-box; }
      html { -webkit-text-size-adjust: 100%; }
      body {
        margin: 0 auto; padding: 2.5rem 1.5rem 3rem; max-width: 76rem; background: var(--page); color: var(--ink);
        font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
        overflow-wrap: anywhere;
      }
      h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; letter-spacing: -0.01em; }
      h2 { margin: 0 0 0.25rem; font-size: 1.2rem; letter-spacing: -0.005em; }
      h3 { margin: 0; font-size: 0.95rem; }
      p { margin: 0; }
      .eyebrow { color: var(--muted); font-size: 0.85rem; margin-bottom: 0.35rem; }
      .title { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1rem; }
      .line { color: var(--muted); margin-top: 0.5rem; }
      .verdict { padding: 0.15rem 0.75rem; border-radius: 1rem; font-weight: 600; }
      .verdict.ok { color: var(--ok); background: var(--ok-fill); }
      .verdict.bad { color: var(--bad); background: var(--bad-fill); }
      .muted, .intro { color: var(--muted); }
      .intro { max-width: 46rem; margin-bottom: 1rem; }
      section, .tiles { margin-top: 2.5rem; }
      .tiles {
        display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.75rem;
        margin-bottom: 0;
      }
      .tile, .card {
        background: var(--card); border: 1px solid var(--line); border-radius: 0.6rem; padding: 0.9rem 1rem;
        min-width: 0;
      }
      .tile.bad { border-color: var(--bad); }
      .tile dt { color: var(--muted); font-size: 0.85rem; }
      .tile dd { margin: 0; }
      .tile .value { font-size: 1.45rem; font-weight: 600; line-height: 1.35; font-variant-numeric: tabular-nums; }
      .tile.bad .value { color: var(--bad); }
      .tile .note { color: var(--muted); font-size: 0.82rem; }
      .faults {
        margin: 0.5rem 0 0; padding: 0.8rem 1rem 0.8rem 2rem; border-radius: 0.6rem; background: var(--bad-fill);
      }
      .facts {
        display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0.6rem 1.5rem;
        margin: 0 0 1rem;
      }
      .facts dt { color: var(--muted); font-size: 0.85rem; }
      .facts dd { margin: 0; }
      .scroll {
        overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 0.6rem;
        margin-bottom: 0.75rem;
      }
      .scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--after); outline-offset: 2px; }
      table { border-collapse: collapse; width: 100%; font-size: 0.87rem; overflow-wrap: normal; }
      caption { text-align: left; color: var(--muted); padding: 0.7rem 0.7rem 0.35rem; font-size: 0.85rem; }
      th, td { padding: 0.4rem 0.7rem; text-align: left; border-top: 1px solid var(--grid); }
      thead th { color: var(--muted); font-weight: 500; border-top: 0; border-bottom: 1px solid var(--line); }
      tbody tr:first-child th, tbody tr:first-child td { border-top: 0; }
      tbody th { font-weight: 500; min-width: 9rem; overflow-wrap: anywhere; }
      tbody tr:hover { background: var(--grid); }
      .number { text-align: right; font-variant-numeric: tabular-nums; }
      td.number { white-space: nowrap; }
      .hash { min-width: 12rem; overflow-wrap: anywhere; font: 0.8rem ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
      .bits { background: color-mix(in srgb, var(--bar) var(--share, 0%), transparent); }
      .b2 { --share: 10%; } .b3 { --share: 20%; } .b4 { --share: 35%; } .b5 { --share: 50%; } .b6 { --share: 65%; }
      .b7 { --share: 80%; } .b8 { --share: 100%; }
      .bar { position: relative; min-width: 7rem; }
      .bar .fill {
        position: absolute; right: 0.7rem; top: 0.3rem; bottom: 0.3rem; max-width: calc(100% - 1.4rem);
        background: var(--bar); border-radius: 0.2rem;
      }
      .bar .over { position: relative; padding-right: 0.35rem; }
      .ok, .bad { font-weight: 500; }
      span.ok { color: var(--ok); }
      span.bad { color: var(--bad); }
      details { margin-top: 0.75rem; }
      summary { cursor: pointer; padding: 0.45rem 0; font-weight: 500; }
      summary .muted { font-weight: 400; }
      figure { margin: 0 0 0.75rem; }
      figcaption { color: var(--muted); font-size: 0.8rem; margin-top: 0.2rem; }
      svg { display: block; }
      .depth { width: 100%; min-width: 44rem; padding: 0.5rem; }
      .depth text { fill: var(--muted); font-size: 12px; }
      .grid { stroke: var(--line); fill: none; }
      .grid.minor { stroke: var(--grid); }
      .depth .limit { stroke: var(--limit); stroke-width: 1.3; stroke-dasharray: 6 4; fill: none; }
      .depth .limit-label { fill: var(--limit); }
      .depth .line { fill: none; stroke-width: 1.6; stroke-opacity: 0.75; stroke-linejoin: round; }
      .depth circle { stroke: var(--card); stroke-width: 1; }
      .s0 { --c: var(--c0); } .s1 { --c: var(--c1); } .s2 { --c: var(--c2); } .s3 { --c: var(--c3); }
      .s4 { --c: var(--c4); } .s5 { --c: var(--c5); } .s6 { --c: var(--c6); }
      .depth .line { stroke: var(--c); }
      .depth circle { fill: var(--c); }
      .depth .again circle, .depth .third circle { fill: var(--card); stroke: var(--c); stroke-width: 1.6; }
      .depth .again .line { stroke-dasharray: 5 3; }
      .depth .third .line { stroke-dasharray: 1.5 3; }
      .legend {
        display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; list-style: none; margin: 0 0 1rem; padding: 0;
        font-size: 0.85rem;
      }
      .legend li { display: flex; align-items: center; gap: 0.4rem; }
      .key { width: 0.8rem; height: 0.8rem; border-radius: 0.2rem; background: var(--c); flex: none; }
      .key.again { background: none; border: 2px dashed var(--c); }
      .key.third { background: none; border: 2px dotted var(--c); }
      .key.before { background: var(--before); }
      .key.after { background: var(--after); }
      .key.steps { background: var(--steps); }
      .depth .mark path { fill: none; stroke: var(--ink); stroke-width: 1.5; }
      .depth .mark text { fill: var(--ink); }
      .key.mark { background: none; border: 1.5px solid var(--ink); border-radius: 0; transform: rotate(45deg) scale(0.8); }
      a { color: var(--after); text-underline-offset: 0.15em; }
      :target { outline: 2px solid var(--after); outline-offset: 3px; border-radius: 0.3rem; }
      .key.limit { height: 0; border-top: 2px dashed var(--limit); background: none; border-radius: 0; }
      .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 0.75rem; }
      .card p { font-size: 0.85rem; }
      .card .readers { margin-bottom: 0.7rem; }
      .plot { display: grid; grid-template-columns: 2.6rem minmax(0, 1fr); gap: 0.5rem; }
      .plot .scale {
        display: flex; flex-direction: column; justify-content: space-between; text-align: right;
        white-space: nowrap;
      }
      .plot .scale { font-size: 0.72rem; line-height: 1; color: var(--muted); font-variant-numeric: tabular-nums; }
      .plot + figcaption { margin-left: 3.1rem; }
      .ranges { width: 100%; height: 7rem; background: var(--page); border-radius: 0.3rem; }
      .ranges path { vector-effect: non-scaling-stroke; stroke-width: 1; }
      .ranges .zero { stroke: var(--line); }
      .ranges .before { fill: var(--before); fill-opacity: 0.38; stroke: var(--before); stroke-opacity: 0.75; }
      .ranges .after { fill: var(--after); fill-opacity: 0.55; stroke: var(--after); stroke-opacity: 0.9; }
      .ranges .steps { fill: var(--steps); fill-opacity: 0.5; stroke: var(--steps); stroke-opacity: 0.9; }
      .ranges .limit { stroke: var(--limit); stroke-dasharray: 5 4; fill: none; }
      .pair {
        display: grid; grid-auto-columns: minmax(0, 1fr); grid-auto-flow: column; gap: 0.75rem;
        margin-left: 3.1rem;
      }
      .pair figure { margin: 0; min-width: 0; }
      .histogram { width: 100%; height: 3.2rem; fill: var(--c7); }
      .before .histogram { fill: var(--before); }
      .steps .histogram { fill: var(--steps); }
      .spark { min-width: 8rem; }
      .spark .histogram { height: 1.4rem; width: 7rem; fill: var(--after); }
      footer {
        margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
        font-size: 0.85rem;
      }
      @media (max-width: 40rem) {
        body { padding: 1.5rem 1rem 2rem; }
        h1 { font-size: 1.4rem; }
        .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
        .tile .value { font-size: 1.2rem; }
        th, td { padding: 0.35rem 0.5rem; }
      }
      @media print { details > *:not(summary) { display: block; } .scroll { overflow: visible; } }

    """
  }
}
