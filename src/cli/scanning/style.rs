//! How the pages for auditors look.

/// The style sheet of the HTML pages.
pub(in crate::cli) const STYLE: &str = "
:root { --ink: #1f2328; --dim: #59636e; --line: #d1d9e0; --paper: #fff; --soft: #f6f8fa; --bad: #b3261e; --good: #1a7f37; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9198a1; --line: #3d444d; --paper: #0d1117; --soft: #151b23; --bad: #ff7b72; --good: #3fb950; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h1.bad { color: var(--bad); } h1.good { color: var(--good); }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p, li { max-width: 50rem; overflow-wrap: anywhere; } h1 { overflow-wrap: anywhere; } .dim { color: var(--dim); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 1rem 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .35rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--dim); } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; } td { overflow-wrap: anywhere; }
td code { display: inline-block; min-width: 8rem; } td.n, th { overflow-wrap: normal; }
.chip { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .45em; }
.bars { display: grid; grid-template-columns: minmax(8rem, 18rem) 1fr max-content; overflow-wrap: anywhere; gap: .45rem .9rem; align-items: center; }
.bars svg { width: 100%; height: 22px; display: block; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: 0 0 1rem; padding: 0; list-style: none; }
.bad { color: var(--bad); } .box { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 3rem; } h1 { font-size: 1.4rem; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  .bars { grid-template-columns: 1fr max-content; } .bars div:nth-child(3n+1) { grid-column: 1 / -1; } th, td { padding: .3rem .4rem; }
}
@media print { body { max-width: none; padding: 0; } }
";
